package main

import (
	"errors"
	"testing"
	"time"
)

func BenchmarkP1(b *testing.B)  { benchmark(b, "P1") }
func BenchmarkP2(b *testing.B)  { benchmark(b, "P2") }
func BenchmarkP3(b *testing.B)  { benchmark(b, "P3") }
func BenchmarkP4(b *testing.B)  { benchmark(b, "P4") }
func BenchmarkP5(b *testing.B)  { benchmark(b, "P5") }
func BenchmarkP6(b *testing.B)  { benchmark(b, "P6") }
func BenchmarkP7(b *testing.B)  { benchmark(b, "P7") }
func BenchmarkP8(b *testing.B)  { benchmark(b, "P8") }
func BenchmarkP9(b *testing.B)  { benchmark(b, "P9") }
func BenchmarkP10(b *testing.B) { benchmark(b, "P10") }
func BenchmarkP11(b *testing.B) { benchmark(b, "P11") }
func BenchmarkP12(b *testing.B) { benchmark(b, "P12") }
func BenchmarkP13(b *testing.B) { benchmark(b, "P13") }
func BenchmarkP14(b *testing.B) { benchmark(b, "P14") }
func BenchmarkP15(b *testing.B) { benchmark(b, "P15") }
func BenchmarkP16(b *testing.B) { benchmark(b, "P16") }
func BenchmarkP17(b *testing.B) { benchmark(b, "P17") }
func BenchmarkP18(b *testing.B) { benchmark(b, "P18") }

func BenchmarkIndex(b *testing.B) { benchmark(b, "index") }
func BenchmarkHTTP(b *testing.B)  { benchmark(b, "http") }
func BenchmarkLog(b *testing.B)   { benchmark(b, "log") }

// benchmark runs every side of the rows with that identifier, each under the name
// of its variant and its side, as in BenchmarkP4/size=4KiB/side=os.
func benchmark(b *testing.B, id string) {
	chosen, err := choose(rows(false), id, false, false)
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range chosen {
		w, err := newWorkspace(b.Context(), b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		undo := func() error { return nil }
		if r.around != nil {
			if undo, err = r.around(); err != nil {
				b.Log(r.name(), "skipped:", err)
				continue
			}
		}
		for _, s := range r.sides {
			name := "side=" + s.name
			if r.variant != "" {
				name = r.variant + "/" + name
			}
			b.Run(name, func(b *testing.B) {
				if r.figures != nil {
					benchmarkFigures(b, w, r, s)
				} else {
					benchmarkSide(b, w, r, s)
				}
			})
		}
		if err := errors.Join(w.close(), undo()); err != nil {
			b.Error(err)
		}
	}
}

func benchmarkSide(b *testing.B, w *workspace, r row, s side) {
	session, err := s.open(w)
	if err != nil {
		b.Skip(err)
	}
	defer func() {
		if err := session.end(); err != nil {
			b.Error(err)
		}
	}()
	b.SetBytes(int64(r.bytes))
	b.ReportAllocs()
	most := r.ops
	if most == 0 {
		most = b.N
	}
	var took time.Duration
	b.ResetTimer()
	for left := b.N; left > 0; left -= most {
		if session.prepare != nil {
			b.StopTimer()
			if err := session.prepare(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		n := min(left, most)
		if _, err := session.run(n); err != nil {
			b.Fatal(err)
		}
		if session.took != nil {
			took += session.took(n)
		}
	}
	b.StopTimer()
	if session.took != nil {
		b.ReportMetric(float64(took)/float64(b.N), "ns/op")
	}
}

func benchmarkFigures(b *testing.B, w *workspace, r row, s side) {
	for b.Loop() {
		figures, err := r.figures(w, s.hold)
		if err != nil {
			b.Skip(err)
		}
		for _, f := range figures {
			b.ReportMetric(f.value, f.name)
		}
	}
}
