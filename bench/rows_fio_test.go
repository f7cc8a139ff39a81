package main

import (
	"testing"
	"time"
)

// What fio 3 prints, with the many fields left out that nobody asks for.
const printedByFio = `{
  "fio version" : "fio-3.33",
  "jobs" : [
    {
      "jobname" : "bench",
      "error" : 0,
      "read" : { "io_bytes" : 4096000, "runtime" : 50, "total_ios" : 1000 },
      "write" : { "io_bytes" : 0, "runtime" : 0, "total_ios" : 0 }
    }
  ]
}`

func TestParseFio(t *testing.T) {
	report, err := parseFio([]byte(printedByFio))
	if err != nil {
		t.Fatal(err)
	}
	if each, err := report.each(false); each != 50*time.Microsecond || err != nil {
		t.Errorf("a read took %v, %v", each, err)
	}
	if each, err := report.each(true); err == nil {
		t.Errorf("a write that was not took %v", each)
	}
	for _, text := range []string{"", "fio: no such engine", `{"jobs": []}`, `{"jobs": [{"error": 5}]}`} {
		if _, err := parseFio([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
