package main

import (
	"slices"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{7}, spread{7, 7, 7, 7, 7}},
		{[]float64{4, 2}, spread{3, 2, 4, 2, 4}},
		{[]float64{5, 1, 4, 2, 3}, spread{3, 5. / 3, 13. / 3, 1, 5}},
	} {
		before := slices.Clone(test.values)
		got := spreadOf(test.values)
		if !near(got, test.want) {
			t.Errorf("%v: got %+v, want %+v", test.values, got, test.want)
		}
		if !slices.Equal(before, test.values) {
			t.Errorf("%v came out as %v", before, test.values)
		}
	}
}

func near(a, b spread) bool {
	for _, d := range []float64{a.Median - b.Median, a.Q1 - b.Q1, a.Q3 - b.Q3, a.Min - b.Min, a.Max - b.Max} {
		if d < -1e-9 || d > 1e-9 {
			return false
		}
	}
	return true
}

// The median of ratios is that of pairs: here every round has the same ratio,
// though the rounds differ and so do the medians' ratios.
func TestCompare(t *testing.T) {
	of, against := []float64{10, 1, 100}, []float64{20, 2, 200}
	c := compare(pair{"a", "b", faster(2)}, of, against)
	if c.Median != 2 || c.Min != 2 || c.Max != 2 || c.InTime || c.Goal != ">= 2 x speed" || !*c.Reached {
		t.Errorf("speed: %+v", c)
	}
	if c := compare(pair{"a", "b", faster(2.01)}, of, against); *c.Reached {
		t.Errorf("speed: %+v", c)
	}
	c = compare(pair{"a", "b", within(0.5)}, of, against)
	if c.Median != 0.5 || !c.InTime || c.Goal != "<= 0.5 x time" || !*c.Reached {
		t.Errorf("time: %+v", c)
	}
	if c := compare(pair{"a", "b", within(0.49)}, of, against); *c.Reached {
		t.Errorf("time: %+v", c)
	}
	if c := compare(pair{"a", "b", nil}, of, against); c.Median != 2 || c.Goal != "" || c.Reached != nil {
		t.Errorf("no goal: %+v", c)
	}
}
