//! The Rust sides of the comparison: one workload, done by mmap-io or by memmap2.
//!
//! ```text
//! sides SIDE WORKLOAD FILE [NAME=VALUE]...
//! ```
//!
//! The program gets its file ready and writes `ready`. Then it reads commands, one a line:
//! for `run N` it does N operations and writes `ok NANOSECONDS CHECKSUM`. For `shut` it closes
//! its file, if its workload is one that is told to, so that something can be done with the
//! file, and for `open` it opens it again; it answers `done` to both. It ends where its input
//! ends. When something fails it writes `error` with what it was, and ends.

mod sides;
mod workloads;

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

pub type Failure = Box<dyn Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Failure>;

/// Does so many operations and returns a checksum of what they read. It goes on where the
/// last run ended.
pub type Run = Box<dyn FnMut(u64) -> Result<u64>>;

/// A workload that is open.
pub trait Work {
    fn run(&mut self, n: u64) -> Result<u64>;
    fn shut(&mut self) -> Result<()> {
        Err("it has its file open all the time".into())
    }
    fn open(&mut self) -> Result<()> {
        Err("it has its file open all the time".into())
    }
}

impl Work for Run {
    fn run(&mut self, n: u64) -> Result<u64> {
        self(n)
    }
}

/// The parameters of a workload.
pub struct Parameters {
    pub path: PathBuf,
    /// The size of the file.
    pub size: u64,
    values: HashMap<String, String>,
}

impl Parameters {
    fn parse(path: String, arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut values = HashMap::new();
        for argument in arguments {
            let Some((name, value)) = argument.split_once('=') else {
                return Err(format!("{argument:?} is not of the form NAME=VALUE").into());
            };
            values.insert(name.to_owned(), value.to_owned());
        }
        let mut parameters = Self {
            path: path.into(),
            size: 0,
            values,
        };
        parameters.size = parameters.number("size")?;
        Ok(parameters)
    }

    /// Takes the parameter of that name, which must be there.
    pub fn text(&mut self, name: &str) -> Result<String> {
        Ok(self
            .values
            .remove(name)
            .ok_or_else(|| format!("{name}= is missing"))?)
    }

    pub fn number(&mut self, name: &str) -> Result<u64> {
        let text = self.text(name)?;
        Ok(text.parse().map_err(|e| format!("{name}={text}: {e}"))?)
    }

    /// Fails if there is a parameter that nobody took.
    fn end(&self) -> Result<()> {
        match self.values.keys().next() {
            Some(name) => Err(format!("there is no parameter {name}").into()),
            None => Ok(()),
        }
    }
}

fn open() -> Result<Box<dyn Work>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(side), Some(workload), Some(path)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: sides SIDE WORKLOAD FILE [NAME=VALUE]...".into());
    };
    let mut parameters = Parameters::parse(path, arguments)?;
    let work = match side.as_str() {
        "mmap-io" => workloads::open::<sides::MmapIo>(&workload, &mut parameters),
        "memmap2" => workloads::open::<sides::Memmap2>(&workload, &mut parameters),
        _ => Err(format!("there is no side {side:?}").into()),
    }?;
    parameters.end()?;
    Ok(work)
}

fn serve(out: &mut impl Write) -> Result<()> {
    let mut work = open()?;
    writeln!(out, "ready")?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.as_str() {
            "shut" => {
                work.shut()?;
                writeln!(out, "done")?;
            }
            "open" => {
                work.open()?;
                writeln!(out, "done")?;
            }
            _ => {
                let Some(n) = line.strip_prefix("run ").and_then(|n| n.parse().ok()) else {
                    return Err(format!("{line:?} is no command").into());
                };
                let began = Instant::now();
                let sum = work.run(n)?;
                let took = began.elapsed();
                writeln!(out, "ok {} {sum}", took.as_nanos())?;
            }
        }
        out.flush()?;
    }
    Ok(())
}

fn main() {
    let mut out = std::io::stdout().lock();
    if let Err(e) = serve(&mut out) {
        let text = e.to_string().replace('\n', " ");
        let _ = writeln!(out, "error {text}");
        std::process::exit(1);
    }
}
