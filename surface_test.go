package mmapio_test

import (
	"os"
	"reflect"
	"testing"

	"github.com/mmapio/mmapio"
)

// Every exported method of *os.File is there, with the same parameters and results.
func TestFileHasEveryMethodOfOSFile(t *testing.T) {
	want, got := reflect.TypeFor[*os.File](), reflect.TypeFor[*mmapio.File]()
	if want.NumMethod() < 20 {
		t.Fatalf("reflection finds only %d methods of *os.File", want.NumMethod())
	}
	for i := range want.NumMethod() {
		method := want.Method(i)
		mine, ok := got.MethodByName(method.Name)
		if !ok {
			t.Errorf("*mmapio.File has no method %s", method.Name)
			continue
		}
		if difference := signatureDifference(method.Type, mine.Type); difference != "" {
			t.Errorf("%s: %s", method.Name, difference)
		}
	}
}

// signatureDifference compares two methods taken from their types, without the receivers.
func signatureDifference(want, got reflect.Type) string {
	if want.NumIn() != got.NumIn() || want.NumOut() != got.NumOut() || want.IsVariadic() != got.IsVariadic() {
		return "has signature " + got.String() + ", os has " + want.String()
	}
	for i := 1; i < want.NumIn(); i++ {
		if want.In(i) != got.In(i) {
			return "takes " + got.In(i).String() + " where os takes " + want.In(i).String()
		}
	}
	for i := range want.NumOut() {
		if want.Out(i) != got.Out(i) {
			return "returns " + got.Out(i).String() + " where os returns " + want.Out(i).String()
		}
	}
	return ""
}

// The comparison itself can fail.
func TestSignatureDifference(t *testing.T) {
	want := reflect.TypeFor[*os.File]()
	method := func(name string) reflect.Type {
		m, ok := want.MethodByName(name)
		if !ok {
			t.Fatalf("*os.File has no method %s", name)
		}
		return m.Type
	}
	if d := signatureDifference(method("Read"), method("Write")); d != "" {
		t.Errorf("Read and Write have the same signature, but: %s", d)
	}
	for _, pair := range [][2]string{{"Read", "ReadAt"}, {"Read", "WriteString"}, {"ReadDir", "Readdir"}, {"Close", "Stat"}} {
		if signatureDifference(method(pair[0]), method(pair[1])) == "" {
			t.Errorf("%s and %s pass for the same signature", pair[0], pair[1])
		}
	}
}

// The functions that make a File take what those of os take, and options.
func TestConstructorsMatchOS(t *testing.T) {
	for _, row := range []struct {
		name      string
		want, got any
	}{
		{"Open", os.Open, mmapio.Open},
		{"Create", os.Create, mmapio.Create},
		{"OpenFile", os.OpenFile, mmapio.OpenFile},
		{"CreateTemp", os.CreateTemp, mmapio.CreateTemp},
		{"OpenInRoot", os.OpenInRoot, mmapio.OpenInRoot},
		{"NewFile", os.NewFile, mmapio.NewFile},
	} {
		want, got := reflect.TypeOf(row.want), reflect.TypeOf(row.got)
		if !got.IsVariadic() || got.NumIn() != want.NumIn()+1 || got.In(want.NumIn()) != reflect.TypeFor[[]mmapio.Option]() {
			t.Errorf("%s is %v; wanted the parameters of %v and options", row.name, got, want)
			continue
		}
		for i := range want.NumIn() {
			if got.In(i) != want.In(i) {
				t.Errorf("%s takes %v where os takes %v", row.name, got.In(i), want.In(i))
			}
		}
		if got.NumOut() != want.NumOut() || got.Out(0) != reflect.TypeFor[*mmapio.File]() {
			t.Errorf("%s returns %v", row.name, got)
			continue
		}
		if got.NumOut() == 2 && got.Out(1) != want.Out(1) {
			t.Errorf("%s returns %v where os returns %v", row.name, got.Out(1), want.Out(1))
		}
	}
}

// methodNames lists the exported methods of *os.File.
func methodNames() []string {
	var names []string
	of := reflect.TypeFor[*os.File]()
	for i := range of.NumMethod() {
		names = append(names, of.Method(i).Name)
	}
	return names
}
