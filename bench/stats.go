package main

import (
	"slices"

	"github.com/aclements/go-moremath/stats"
)

// A spread is the distribution of a measured value over the rounds: the median,
// the quartiles and the extremes. Quantiles are those that benchstat uses (R8).
type spread struct {
	Median float64 `json:"median"`
	Q1     float64 `json:"q1"`
	Q3     float64 `json:"q3"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(values []float64) spread {
	s := stats.Sample{Xs: values}
	least, most := s.Bounds()
	return spread{
		Median: s.Quantile(0.5),
		Q1:     s.Quantile(0.25),
		Q3:     s.Quantile(0.75),
		Min:    least,
		Max:    most,
	}
}

// percentilesOf returns those that a sample is drawn by: every whole one, and the tail.
func percentilesOf(values []float64) []percentile {
	if len(values) == 0 {
		return nil
	}
	s := stats.Sample{Xs: slices.Clone(values)}
	s.Sort()
	var all []percentile
	for percent := range 100 {
		all = append(all, percentile{float64(percent), s.Quantile(float64(percent) / 100)})
	}
	for _, percent := range []float64{99.5, 99.9, 99.99, 100} {
		all = append(all, percentile{percent, s.Quantile(percent / 100)})
	}
	return all
}

// ratios divides a by b, round by round. Only values of the same round are
// divided, for what slowed one of them down slowed the other one too.
func ratios(a, b []float64) []float64 {
	r := make([]float64, len(a))
	for i := range r {
		r[i] = a[i] / b[i]
	}
	return r
}
