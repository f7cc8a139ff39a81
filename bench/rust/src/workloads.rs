//! The workloads: what they do, and in which order, is what the Go sides of the same rows
//! do, down to the checksums.

use crate::sides::{Policy, Reads, Side, Writes};
use crate::{Parameters, Result, Run, Work};
use std::hint::black_box;
use std::path::PathBuf;

/// Opens a workload, by its name.
pub fn open<S: Side + 'static>(workload: &str, p: &mut Parameters) -> Result<Box<dyn Work>> {
    let run = match workload {
        "cold" => return Ok(Box::new(Cold::<S>::new(p)?)),
        "grow" => return Ok(Box::new(Growth::<S>::new(p)?)),
        "create" => create::<S>(p),
        "read" => match p.text("mode")?.as_str() {
            "ro" => read(S::open(&p.path)?, p),
            _ => read(S::open_rw(&p.path)?, p),
        },
        "view" => match p.text("mode")?.as_str() {
            "ro" => view(S::open(&p.path)?, p),
            _ => view(S::open_rw(&p.path)?, p),
        },
        "whole" => match p.text("mode")?.as_str() {
            "ro" => whole_file(S::open(&p.path)?, p),
            _ => whole_file(S::open_rw(&p.path)?, p),
        },
        "chunks" => match p.text("mode")?.as_str() {
            "ro" => chunks(S::open(&p.path)?, p),
            _ => chunks(S::open_rw(&p.path)?, p),
        },
        "sequence" => sequence(S::open(&p.path)?, p),
        "crc" => crc(S::open(&p.path)?, p),
        "lines" => lines(S::open(&p.path)?, p),
        "reopen" => reopen::<S>(p),
        "write" => write(S::open_rw(&p.path)?, p),
        "overwrite" => overwrite(S::open_rw(&p.path)?, p),
        "flushed" => flushed(S::open_rw(&p.path)?, p),
        "update" => update::<S>(p),
        "resize" => resize::<S>(p),
        "touch" => touch::<S>(p),
        "count" => count::<S>(p),
        "add" => add::<S>(p),
        "advise" => advise::<S>(p),
        "private" => private::<S>(p),
        _ => Err(format!("there is no workload {workload:?}").into()),
    }?;
    Ok(Box::new(run))
}

const PAGE: u64 = 4096;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

fn next(x: u64) -> u64 {
    x.wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407)
}

/// A walk visits a file in random order, `unit` bytes being the step of offsets.
struct Walk {
    x: u64,
    unit: u64,
    units: u64,
}

impl Walk {
    fn new(size: u64, n: u64, unit: u64, seed: u64) -> Self {
        Self {
            x: seed,
            unit,
            units: (size - n) / unit + 1,
        }
    }

    fn step(&mut self) -> u64 {
        self.x = next(self.x);
        ((u128::from(self.x) * u128::from(self.units)) >> 64) as u64 * self.unit
    }
}

fn word(p: &[u8]) -> u64 {
    u64::from_le_bytes(p[..8].try_into().unwrap_or_default())
}

/// Adds what was read into `p` to a checksum: its ends.
fn mix(sum: u64, p: &[u8]) -> u64 {
    sum.rotate_left(5) ^ word(p) ^ word(&p[p.len() - 8..])
}

/// Adds all of `p` to a checksum. A run does it once, at its end.
fn whole(sum: u64, p: &[u8]) -> u64 {
    sum ^ u64::from(crc32c::crc32c(p)) << 16
}

/// Looks at every page of a file, so that all of it is mapped.
fn warm(file: &impl Reads, size: u64) -> Result<()> {
    for off in (0..size).step_by(PAGE as usize) {
        black_box(file.view(off, 1, |b| u64::from(b[0]))?);
    }
    Ok(())
}

/// Reads n bytes at random offsets.
fn read<F: Reads + 'static>(file: F, p: &mut Parameters) -> Result<Run> {
    let (size, n, unit) = (p.size, p.number("n")?, p.number("unit")?);
    let (walks, threads) = (p.number("walks")?, p.number("threads")?);
    warm(&file, size)?;
    let mut walkers = walkers(size, n, unit, walks);
    Ok(Box::new(move |n| {
        if threads > 1 {
            return together(&file, &mut walkers, n);
        }
        let mut sum = 0;
        for (i, walker) in walkers.iter_mut().enumerate() {
            sum ^= whole(go(&file, walker, share(i as u64, n, walks))?, &walker.1);
        }
        Ok(sum)
    }))
}

/// A way through a file, and the memory that is read into.
type Walker = (Walk, Vec<u8>);

fn walkers(size: u64, n: u64, unit: u64, walks: u64) -> Vec<Walker> {
    (0..walks)
        .map(|i| {
            // A page each, so that no two threads share a cache line.
            let mut buf = Vec::with_capacity(n.max(PAGE) as usize);
            buf.resize(n as usize, 0);
            (Walk::new(size, n, unit, SEED.wrapping_add(i)), buf)
        })
        .collect()
}

/// What falls to one of several, of n operations.
fn share(i: u64, n: u64, walks: u64) -> u64 {
    n * (i + 1) / walks - n * i / walks
}

fn go(file: &impl Reads, (way, buf): &mut Walker, n: u64) -> Result<u64> {
    let mut sum = 0;
    for _ in 0..n {
        file.read(way.step(), buf)?;
        sum = mix(sum, black_box(buf));
    }
    Ok(sum)
}

/// Shares n operations among threads that are started for it, one for each walker.
fn together(file: &impl Reads, walkers: &mut [Walker], n: u64) -> Result<u64> {
    let walks = walkers.len() as u64;
    std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for (i, walker) in walkers.iter_mut().enumerate() {
            handles.push(scope.spawn(move || {
                let sum = go(file, walker, share(i as u64, n, walks))?;
                Ok::<u64, crate::Failure>(whole(sum, &walker.1))
            }));
        }
        let mut sum = 0;
        for handle in handles {
            sum ^= handle.join().map_err(|_| "a thread panicked")??;
        }
        Ok(sum)
    })
}

/// Reads n bytes at random offsets by several threads. The file is opened before a run, and
/// what was read of it before is not in memory, if whoever has the run done saw to that.
struct Cold<S: Side> {
    path: PathBuf,
    file: Option<S::ReadOnly>,
    walkers: Vec<Walker>,
}

impl<S: Side> Cold<S> {
    fn new(p: &mut Parameters) -> Result<Self> {
        let (n, unit, walks) = (p.number("n")?, p.number("unit")?, p.number("walks")?);
        Ok(Self {
            path: p.path.clone(),
            file: Some(S::open(&p.path)?),
            walkers: walkers(p.size, n, unit, walks),
        })
    }
}

impl<S: Side> Work for Cold<S> {
    fn run(&mut self, n: u64) -> Result<u64> {
        let file = self.file.as_ref().ok_or("it is not open")?;
        together(file, &mut self.walkers, n)
    }

    fn shut(&mut self) -> Result<()> {
        self.file = None;
        Ok(())
    }

    fn open(&mut self) -> Result<()> {
        self.file = Some(S::open(&self.path)?);
        Ok(())
    }
}

/// Makes a file longer by `step` bytes, writes there and reads that back; from the step
/// `from` on, those before being done when the file is opened.
struct Growth<S: Side> {
    path: PathBuf,
    file: Option<S::ReadWrite>,
    step: u64,
    from: u64,
    at: u64,
    buf: [u8; 64],
}

impl<S: Side> Growth<S> {
    fn new(p: &mut Parameters) -> Result<Self> {
        Ok(Self {
            path: p.path.clone(),
            file: None,
            step: p.number("step")?,
            from: p.number("from")?,
            at: 0,
            buf: [0; 64],
        })
    }
}

impl<S: Side> Work for Growth<S> {
    fn run(&mut self, n: u64) -> Result<u64> {
        let file = self.file.as_mut().ok_or("it is not open")?;
        for _ in 0..n {
            let off = self.at * self.step;
            self.at += 1;
            file.resize(off + self.step)?;
            self.buf[..8].copy_from_slice(&off.to_le_bytes());
            file.write(off, &self.buf)?;
            self.buf.fill(0);
            file.read(off, &mut self.buf)?;
            if word(&self.buf) != off {
                return Err(
                    format!("read {} at {off}, want what was written", word(&self.buf)).into(),
                );
            }
        }
        Ok(n)
    }

    fn shut(&mut self) -> Result<()> {
        self.file = None;
        Ok(())
    }

    fn open(&mut self) -> Result<()> {
        // Neither crate maps a file without a byte in it.
        self.file = Some(S::create(&self.path, PAGE)?);
        self.at = 0;
        self.run(self.from)?;
        Ok(())
    }
}

/// Looks at n bytes at random offsets, without a copy: at the first one, or no further than
/// that they are there.
fn view<F: Reads + 'static>(file: F, p: &mut Parameters) -> Result<Run> {
    let (size, n, unit, look) = (p.size, p.number("n")?, p.number("unit")?, p.text("look")?);
    warm(&file, size)?;
    let mut way = Walk::new(size, n, unit, SEED);
    if look == "length" {
        return Ok(Box::new(move |ops| {
            let mut sum = 0u64;
            for _ in 0..ops {
                sum += file.view(way.step(), n, |b| black_box(b).len() as u64)?;
            }
            Ok(sum)
        }));
    }
    Ok(Box::new(move |ops| {
        let mut sum = 0u64;
        for _ in 0..ops {
            let first = file.view(way.step(), n, |b| u64::from(black_box(b)[0]))?;
            sum = sum.wrapping_mul(31).wrapping_add(first);
        }
        Ok(sum)
    }))
}

/// Gets at all of a file at once: by a copy, or without one, looking at one byte of every
/// `step` bytes.
fn whole_file<F: Reads + 'static>(file: F, p: &mut Parameters) -> Result<Run> {
    let (size, by, step) = (p.size, p.text("by")?, p.number("step")? as usize);
    warm(&file, size)?;
    if by == "copy" {
        let mut buf = vec![0; size as usize];
        return Ok(Box::new(move |ops| {
            let mut sum = 0;
            for _ in 0..ops {
                file.read(0, &mut buf)?;
                sum = mix(sum, black_box(&buf));
            }
            Ok(sum)
        }));
    }
    Ok(Box::new(move |ops| {
        let mut sum = 0u64;
        for _ in 0..ops {
            sum = sum.wrapping_add(file.view(0, size, |b| {
                let b = black_box(b);
                let (mut sum, mut off) = (0, 0);
                while off < b.len() {
                    sum += u64::from(b[off]);
                    off += step;
                }
                sum
            })?);
        }
        Ok(sum)
    }))
}

/// Goes through all of a file in chunks; or, if the kind is `each`, through one chunk, not
/// looking at what is in it, and from the begin on in every run.
fn chunks<F: Reads + 'static>(file: F, p: &mut Parameters) -> Result<Run> {
    let (size, n, kind) = (p.size, p.number("n")? as usize, p.text("kind")?);
    warm(&file, size)?;
    if kind == "each" {
        return Ok(Box::new(move |ops| {
            let (mut sum, mut left) = (0u64, ops);
            while left > 0 {
                left -= file.each_chunk(n, left, |chunk| {
                    let length = black_box(chunk).len() as u64;
                    sum = sum.wrapping_mul(31).wrapping_add(length);
                })?;
            }
            Ok(sum)
        }));
    }
    Ok(Box::new(move |ops| {
        let mut sum = 0u64;
        for _ in 0..ops {
            let file = black_box(&file);
            sum = sum.wrapping_add(match kind.as_str() {
                "owned" => file.owned_chunks(n)?,
                "pages" => file.pages()?,
                _ => file.chunks(n)?,
            });
        }
        Ok(sum)
    }))
}

/// Reads a file from its begin to its end, n bytes at a time, over and over.
fn sequence<F: Reads + 'static>(file: F, p: &mut Parameters) -> Result<Run> {
    let (size, mut buf) = (p.size, vec![0; p.number("n")? as usize]);
    warm(&file, size)?;
    let mut cursor = 0;
    Ok(Box::new(move |ops| {
        let (n, mut sum) = (buf.len() as u64, 0);
        for _ in 0..ops {
            if cursor + n > size {
                cursor = 0;
            }
            file.read(cursor, &mut buf)?;
            cursor += n;
            sum = mix(sum, black_box(&buf));
        }
        Ok(whole(sum, &buf))
    }))
}

/// Computes the checksum of all of a file.
fn crc<F: Reads + 'static>(file: F, p: &mut Parameters) -> Result<Run> {
    let size = p.size;
    warm(&file, size)?;
    Ok(Box::new(move |ops| {
        let mut sum = 0u64;
        for _ in 0..ops {
            let one = file.view(0, size, |b| u64::from(crc32c::crc32c(black_box(b))))?;
            sum = sum.wrapping_mul(31).wrapping_add(one);
        }
        Ok(sum)
    }))
}

/// Looks at every line of a text, without a copy.
fn lines<F: Reads + 'static>(file: F, p: &mut Parameters) -> Result<Run> {
    let size = p.size;
    warm(&file, size)?;
    fn add(sum: u64, line: &[u8]) -> u64 {
        let first = line.first().map_or(0, |&b| u64::from(b));
        sum.wrapping_add(first)
            .wrapping_mul(31)
            .wrapping_add(line.len() as u64)
    }
    fn all(text: &[u8]) -> u64 {
        let (mut sum, mut begin) = (0, 0);
        for end in memchr::memchr_iter(b'\n', text) {
            sum = add(sum, &text[begin..end]);
            begin = end + 1;
        }
        if begin < text.len() {
            sum = add(sum, &text[begin..]);
        }
        sum
    }
    Ok(Box::new(move |ops| {
        let mut sum = 0u64;
        for _ in 0..ops {
            let one = file.view(0, size, |b| all(black_box(b)))?;
            sum = sum.wrapping_mul(31).wrapping_add(one);
        }
        Ok(sum)
    }))
}

/// Opens a file, reads n bytes at its begin, and closes it.
fn reopen<S: Side>(p: &mut Parameters) -> Result<Run> {
    let (path, mut buf) = (p.path.clone(), vec![0; p.number("n")? as usize]);
    Ok(Box::new(move |ops| {
        let mut sum = 0;
        for _ in 0..ops {
            S::open(&path)?.read(0, &mut buf)?;
            sum = mix(sum, black_box(&buf));
        }
        Ok(whole(sum, &buf))
    }))
}

/// Reads something of every page and writes it back.
fn rewrite(file: &mut impl Writes, size: u64) -> Result<()> {
    let mut buf = [0; 8];
    for off in (0..size).step_by(PAGE as usize) {
        file.read(off, &mut buf)?;
        file.write(off, &buf)?;
    }
    Ok(())
}

/// Writes over a file from its begin to its end, n bytes at a time, over and over.
fn overwrite<F: Writes + 'static>(mut file: F, p: &mut Parameters) -> Result<Run> {
    let (size, mut buf) = (p.size, vec![0; p.number("n")? as usize]);
    rewrite(&mut file, size)?;
    let mut cursor = 0;
    Ok(Box::new(move |ops| {
        let (n, mut x) = (buf.len() as u64, 0);
        for _ in 0..ops {
            if cursor + n > size {
                cursor = 0;
            }
            x = next(x);
            buf[..8].copy_from_slice(&x.to_le_bytes());
            file.write(cursor, &buf)?;
            cursor += n;
        }
        Ok(x)
    }))
}

/// Writes n bytes at a random offset of a file that is there, and flushes.
fn flushed<F: Writes + 'static>(mut file: F, p: &mut Parameters) -> Result<Run> {
    let (size, n, unit) = (p.size, p.number("n")?, p.number("unit")?);
    warm(&file, size)?;
    std::fs::File::open(&p.path)?.sync_all()?;
    let (mut way, mut buf) = (Walk::new(size, n, unit, SEED), vec![0; n as usize]);
    Ok(Box::new(move |ops| {
        for _ in 0..ops {
            let off = way.step();
            buf[..8].copy_from_slice(&way.x.to_le_bytes());
            file.write(off, &buf)?;
            file.flush()?;
        }
        Ok(0)
    }))
}

/// Writes n bytes at random offsets of a file that is in memory.
fn write<F: Writes + 'static>(mut file: F, p: &mut Parameters) -> Result<Run> {
    let (size, n, unit) = (p.size, p.number("n")?, p.number("unit")?);
    rewrite(&mut file, size)?;
    let (mut way, mut buf) = (Walk::new(size, n, unit, SEED), vec![0; n as usize]);
    Ok(Box::new(move |ops| {
        for _ in 0..ops {
            let off = way.step();
            buf[..8].copy_from_slice(&way.x.to_le_bytes());
            file.write(off, &buf)?;
        }
        Ok(0)
    }))
}

/// Makes a file and removes the one before.
fn create<S: Side>(p: &mut Parameters) -> Result<Run> {
    let size = p.size;
    let path = p.path.clone();
    S::create(&path, size)?;
    Ok(Box::new(move |ops| {
        for _ in 0..ops {
            std::fs::remove_file(&path)?;
            S::create(&path, size)?;
        }
        Ok(0)
    }))
}

fn policy(text: &str) -> Result<Policy> {
    Ok(match text.split_once(':') {
        None => Policy::Manual,
        Some(("bytes", n)) => Policy::EveryBytes(n.parse()?),
        Some(("millis", n)) => Policy::EveryMillis(n.parse()?),
        _ => return Err(format!("there is no policy {text:?}").into()),
    })
}

/// Writes the first `span` bytes of a file of its own, n at a time, and flushes.
fn update<S: Side>(p: &mut Parameters) -> Result<Run> {
    let (size, n, span) = (p.size, p.number("n")?, p.number("span")?.min(p.size));
    let (flush, policy) = (p.text("flush")?, policy(&p.text("policy")?)?);
    let mut file = S::create_with(&p.path, size, policy)?;
    let mut buf = vec![0xAB; n as usize];
    for off in (0..size).step_by(buf.len()) {
        file.write(off, &buf[..n.min(size - off) as usize])?;
    }
    if flush == "range" || flush == "schedule" {
        // What this crate lacks is told when it is opened.
        flush_by(&file, &flush, n)?;
    }
    let mut x = SEED;
    Ok(Box::new(move |ops| {
        for _ in 0..ops {
            let mut off = 0;
            while off < span {
                x = next(x);
                buf[..8].copy_from_slice(&x.to_le_bytes());
                file.write(off, &buf)?;
                off += n;
            }
            flush_by(&file, &flush, span)?;
        }
        Ok(0)
    }))
}

fn flush_by(file: &impl Writes, flush: &str, n: u64) -> Result<()> {
    match flush {
        "all" => file.flush(),
        "range" => file.flush_range(0, n),
        "schedule" => file.schedule_range(0, n),
        _ => Ok(()),
    }
}

/// Makes a file longer and then as long as it was.
fn resize<S: Side>(p: &mut Parameters) -> Result<Run> {
    let (size, larger) = (p.size, p.size * p.number("times")?);
    let mut file = S::open_rw(&p.path)?;
    warm(&file, size)?;
    file.resize(larger)?;
    file.resize(size)?;
    Ok(Box::new(move |ops| {
        for _ in 0..ops {
            file.resize(larger)?;
            file.resize(size)?;
        }
        Ok(0)
    }))
}

/// Brings a file in that is there already, and mapped.
fn touch<S: Side>(p: &mut Parameters) -> Result<Run> {
    let file = S::open_rw(&p.path)?;
    file.touch()?;
    Ok(Box::new(move |ops| {
        for _ in 0..ops {
            file.touch()?;
        }
        Ok(0)
    }))
}

/// Adds to one word from several threads.
fn count<S: Side>(p: &mut Parameters) -> Result<Run> {
    let (threads, times) = (p.number("threads")?, p.number("times")?);
    let file = S::open_rw(&p.path)?;
    file.count(0)?;
    Ok(Box::new(move |ops| {
        let file = &file;
        for _ in 0..ops {
            std::thread::scope(|scope| -> Result<()> {
                let handles: Vec<_> = (0..threads)
                    .map(|_| scope.spawn(move || file.count(times)))
                    .collect();
                for handle in handles {
                    handle.join().map_err(|_| "a thread panicked")??;
                }
                Ok(())
            })?;
        }
        file.view(0, 8, word)
    }))
}

/// Adds to one word, once in an operation, and returns by how much it is more then.
fn add<S: Side>(p: &mut Parameters) -> Result<Run> {
    let file = S::open_rw(&p.path)?;
    file.count(0)?;
    Ok(Box::new(move |ops| {
        let before = file.view(0, 8, word)?;
        file.count(ops)?;
        Ok(file.view(0, 8, word)?.wrapping_sub(before))
    }))
}

fn advise<S: Side>(p: &mut Parameters) -> Result<Run> {
    let size = p.size;
    let file = S::open_rw(&p.path)?;
    warm(&file, size)?;
    file.advise()?;
    Ok(Box::new(move |ops| {
        for _ in 0..ops {
            file.advise()?;
        }
        Ok(0)
    }))
}

/// Opens a file copy-on-write, and closes it.
fn private<S: Side>(p: &mut Parameters) -> Result<Run> {
    let writable = p.number("writable")? != 0;
    let path = p.path.clone();
    Ok(Box::new(move |ops| {
        for _ in 0..ops {
            black_box(S::open_private(&path, writable)?);
        }
        Ok(0)
    }))
}
