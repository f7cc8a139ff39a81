package main

import (
	"context"
	"errors"
	"strings"

	"github.com/mmapio/mmapio"
)

// residency is what of a file is in memory.
type residency struct {
	size  int64
	pages int64 // of the file
	in    int64 // of those, in memory
	bytes int64 // of the file, in memory

	perChar int64   // pages for one character of the picture
	chars   []int64 // how many pages of each are in memory

	whole []int64 // where stretches of the length of a huge page begin that are wholly in memory
}

// pictureWidth is the width of the picture at most, as vmtouch has it.
const pictureWidth = 60

// Ranges longer than that are asked about in parts, so that a signal is heard.
const askAtOnce = 1 << 30

// residencyOf finds out what of the file is in memory, without changing it.
func residencyOf(ctx context.Context, file *mmapio.File) (*residency, error) {
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if _, err := file.Resident(0, 1); err != nil { // it says whether the system tells
		return nil, err
	}
	pageSize := int64(mmapio.PageSize())
	r := &residency{size: size, pages: (size-1)/pageSize + 1, perChar: 1}
	if size == 0 {
		r.pages = 0
	}
	if r.pages > pictureWidth {
		r.perChar = r.pages/pictureWidth + 1
	}
	r.chars = make([]int64, (r.pages+r.perChar-1)/r.perChar)
	return r, r.ask(ctx, file, 0, size)
}

// ask finds out about n bytes at off, which is where a huge page would begin. The kernel is
// asked for the number of pages first where it can count them: that is how a file that is mostly
// hole takes no time.
func (r *residency) ask(ctx context.Context, file *mmapio.File, off, n int64) error {
	if err := interrupted(ctx, nil); err != nil || n == 0 {
		return err
	}
	if pages, _, ok := cached(file, off, n); ok && pages == 0 {
		return nil
	}
	if n > askAtOnce {
		half := int64(askAtOnce)
		for half < n-half {
			half *= 2
		}
		return errors.Join(r.ask(ctx, file, off, half), r.ask(ctx, file, off+half, n-half))
	}
	answer, err := file.Resident(off, n)
	if err != nil {
		return err
	}
	r.add(off, answer)
	return nil
}

// add takes in what the kernel says of the bytes from off on.
func (r *residency) add(off int64, answer mmapio.Residency) {
	pageSize := int64(answer.PageSize())
	perHuge := hugePageSize() / pageSize
	run := int64(0)
	first := off / pageSize
	for i := range answer.Pages() {
		if !answer.Has(i) {
			run = 0
			continue
		}
		page := first + i
		r.in++
		r.chars[page/r.perChar]++
		if perHuge == 0 {
			continue
		}
		if page%perHuge == 0 {
			run = 0
		}
		if run++; run == perHuge && page%perHuge == perHuge-1 {
			r.whole = append(r.whole, (page+1-perHuge)*pageSize)
		}
	}
	r.bytes += answer.Bytes()
}

// picture shows the file from its start to its end: O for a piece that is in memory, o for
// one that is in part, a blank for one that is not.
func (r *residency) picture() string {
	var picture strings.Builder
	for i, in := range r.chars {
		switch in {
		case 0:
			picture.WriteByte(' ')
		case min(r.perChar, r.pages-int64(i)*r.perChar):
			picture.WriteByte('O')
		default:
			picture.WriteByte('o')
		}
	}
	return picture.String()
}

// viewAtOnce is how much of a file is mapped at once to look for huge pages.
const viewAtOnce = 1 << 30

// hugeBytes returns how many bytes of the file are in huge pages. It maps what is wholly in
// memory, and touches one page of each piece that has the length of a huge page: the kernel maps a
// huge page with that, where there is one.
func (r *residency) hugeBytes(ctx context.Context, file *mmapio.File) (total int64, err error) {
	for len(r.whole) > 0 {
		if err := interrupted(ctx, nil); err != nil {
			return 0, err
		}
		from := r.whole[0]
		until := 0
		for until < len(r.whole) && r.whole[until]-from < viewAtOnce {
			until++
		}
		n, err := hugeIn(file, r.whole[:until])
		if err != nil {
			return 0, err
		}
		total += n
		r.whole = r.whole[until:]
	}
	return total, nil
}

// hugeIn is hugeBytes for some of the pieces.
func hugeIn(file *mmapio.File, pieces []int64) (int64, error) {
	from := pieces[0]
	view, err := file.View(from, pieces[len(pieces)-1]+hugePageSize()-from)
	if err != nil {
		return 0, err
	}
	defer view.Release()
	for _, at := range pieces {
		if err := view.Advise(at-from, 1, mmapio.AdvicePopulateRead); err != nil {
			return 0, err
		}
	}
	return view.HugePages()
}
