package main

import "github.com/aclements/go-moremath/stats"

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

// ratios divides a by b, round by round. Only values of the same round are
// divided, for what slowed one of them down slowed the other one too.
func ratios(a, b []float64) []float64 {
	r := make([]float64, len(a))
	for i := range r {
		r[i] = a[i] / b[i]
	}
	return r
}
