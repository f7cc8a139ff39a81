//! What a workload asks of a crate, done by mmap-io and by memmap2. Everything is called
//! as a user of the crate calls it; the generic code is compiled for each on its own.

use crate::Result;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// When a side flushes by itself.
#[derive(Clone, Copy)]
pub enum Policy {
    Manual,
    EveryBytes(usize),
    EveryMillis(u64),
}

/// A crate.
pub trait Side {
    type ReadOnly: Reads + 'static;
    type ReadWrite: Writes + 'static;
    /// A private mapping; it ends when it is dropped.
    type Private;

    fn open(path: &Path) -> Result<Self::ReadOnly>;
    fn open_rw(path: &Path) -> Result<Self::ReadWrite>;
    fn create(path: &Path, size: u64) -> Result<Self::ReadWrite>;
    fn create_with(path: &Path, size: u64, policy: Policy) -> Result<Self::ReadWrite>;
    fn open_private(path: &Path, writable: bool) -> Result<Self::Private>;
}

/// A file that can be read.
pub trait Reads: Sync {
    fn read(&self, off: u64, buf: &mut [u8]) -> Result<()>;
    /// Has `look` look at bytes, without a copy.
    fn view(&self, off: u64, len: u64, look: impl FnOnce(&[u8]) -> u64) -> Result<u64>;
    /// Adds up the first bytes of all chunks.
    fn chunks(&self, size: usize) -> Result<u64>;
    /// Goes through so many chunks, from the first on, or through all if there are fewer, and
    /// has `see` see each. Returns how many those were.
    fn each_chunk(&self, size: usize, most: u64, see: impl FnMut(&[u8])) -> Result<u64>;
    /// Adds up the first bytes of all chunks, each a copy that the caller may keep.
    fn owned_chunks(&self, size: usize) -> Result<u64>;
    /// Adds up the first bytes of all pages.
    fn pages(&self) -> Result<u64>;
    fn touch(&self) -> Result<()>;
    /// Tells the system that all is going to be read in sequence.
    fn advise(&self) -> Result<()>;
}

/// A file that can be written.
pub trait Writes: Reads {
    fn write(&mut self, off: u64, data: &[u8]) -> Result<()>;
    fn flush(&self) -> Result<()>;
    fn flush_range(&self, off: u64, len: u64) -> Result<()>;
    /// Has the system begin to write, and does not wait.
    fn schedule_range(&self, off: u64, len: u64) -> Result<()>;
    fn resize(&mut self, size: u64) -> Result<()>;
    /// Adds 1 so many times to the word at the start of the file.
    fn count(&self, times: u64) -> Result<()>;
}

fn unsupported<T>(what: &str) -> Result<T> {
    Err(format!("it has no {what}").into())
}

pub struct MmapIo;

pub use mmap_io::MemoryMappedFile;

impl Side for MmapIo {
    type ReadOnly = MemoryMappedFile;
    type ReadWrite = MemoryMappedFile;
    type Private = MemoryMappedFile;

    fn open(path: &Path) -> Result<MemoryMappedFile> {
        Ok(MemoryMappedFile::open_ro(path)?)
    }

    fn open_rw(path: &Path) -> Result<MemoryMappedFile> {
        Ok(MemoryMappedFile::open_rw(path)?)
    }

    fn create(path: &Path, size: u64) -> Result<MemoryMappedFile> {
        Ok(MemoryMappedFile::create_rw(path, size)?)
    }

    fn create_with(path: &Path, size: u64, policy: Policy) -> Result<MemoryMappedFile> {
        use mmap_io::flush::FlushPolicy;
        let policy = match policy {
            Policy::Manual => FlushPolicy::Manual,
            Policy::EveryBytes(n) => FlushPolicy::EveryBytes(n),
            Policy::EveryMillis(n) => FlushPolicy::EveryMillis(n),
        };
        Ok(MemoryMappedFile::builder(path)
            .mode(mmap_io::MmapMode::ReadWrite)
            .size(size)
            .flush_policy(policy)
            .create()?)
    }

    fn open_private(path: &Path, writable: bool) -> Result<MemoryMappedFile> {
        Ok(if writable {
            MemoryMappedFile::open_cow_writable(path)?
        } else {
            MemoryMappedFile::open_cow(path)?
        })
    }
}

impl Reads for MemoryMappedFile {
    fn read(&self, off: u64, buf: &mut [u8]) -> Result<()> {
        Ok(self.read_into(off, buf)?)
    }

    fn view(&self, off: u64, len: u64, look: impl FnOnce(&[u8]) -> u64) -> Result<u64> {
        Ok(look(&self.as_slice(off, len)?))
    }

    fn chunks(&self, size: usize) -> Result<u64> {
        Ok(MemoryMappedFile::chunks(self, size)
            .map(|chunk| u64::from(chunk[0]))
            .sum())
    }

    fn each_chunk(&self, size: usize, most: u64, mut see: impl FnMut(&[u8])) -> Result<u64> {
        let mut seen = 0;
        for chunk in MemoryMappedFile::chunks(self, size).take(most as usize) {
            see(&chunk);
            seen += 1;
        }
        Ok(seen)
    }

    fn owned_chunks(&self, size: usize) -> Result<u64> {
        let mut sum = 0;
        for chunk in self.chunks_owned(size) {
            sum += u64::from(std::hint::black_box(chunk?)[0]);
        }
        Ok(sum)
    }

    fn pages(&self) -> Result<u64> {
        Ok(MemoryMappedFile::pages(self)
            .map(|page| u64::from(page[0]))
            .sum())
    }

    fn touch(&self) -> Result<()> {
        Ok(self.touch_pages()?)
    }

    fn advise(&self) -> Result<()> {
        Ok(MemoryMappedFile::advise(
            self,
            0,
            self.len(),
            mmap_io::MmapAdvice::Sequential,
        )?)
    }
}

impl Writes for MemoryMappedFile {
    fn write(&mut self, off: u64, data: &[u8]) -> Result<()> {
        Ok(self.update_region(off, data)?)
    }

    fn flush(&self) -> Result<()> {
        Ok(MemoryMappedFile::flush(self)?)
    }

    fn flush_range(&self, off: u64, len: u64) -> Result<()> {
        Ok(MemoryMappedFile::flush_range(self, off, len)?)
    }

    fn schedule_range(&self, off: u64, len: u64) -> Result<()> {
        Ok(self.schedule_flush_range(off, len)?)
    }

    fn resize(&mut self, size: u64) -> Result<()> {
        Ok(MemoryMappedFile::resize(self, size)?)
    }

    #[cfg(feature = "atomic")]
    fn count(&self, times: u64) -> Result<()> {
        let word = self.atomic_u64(0)?;
        for _ in 0..times {
            word.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    #[cfg(not(feature = "atomic"))]
    fn count(&self, _: u64) -> Result<()> {
        unsupported("atomic words: it is built without them")
    }
}

pub struct Memmap2;

/// A mapping with the file that a resize needs.
pub struct Shared {
    map: memmap2::MmapMut,
    file: File,
}

impl Shared {
    fn new(file: File) -> Result<Self> {
        // SAFETY: as for all mappings here, the runner and the other sides leave the file
        // of a side that writes alone, and nobody cuts one that is read.
        let map = unsafe { memmap2::MmapMut::map_mut(&file)? };
        Ok(Self { map, file })
    }
}

impl Side for Memmap2 {
    type ReadOnly = memmap2::Mmap;
    type ReadWrite = Shared;
    type Private = (Option<memmap2::Mmap>, Option<memmap2::MmapMut>);

    fn open(path: &Path) -> Result<memmap2::Mmap> {
        Ok(unsafe { memmap2::Mmap::map(&File::open(path)?)? })
    }

    fn open_rw(path: &Path) -> Result<Shared> {
        Shared::new(OpenOptions::new().read(true).write(true).open(path)?)
    }

    fn create(path: &Path, size: u64) -> Result<Shared> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        file.set_len(size)?;
        Shared::new(file)
    }

    fn create_with(path: &Path, size: u64, policy: Policy) -> Result<Shared> {
        match policy {
            Policy::Manual => Self::create(path, size),
            Policy::EveryBytes(_) | Policy::EveryMillis(_) => unsupported("flush policies"),
        }
    }

    fn open_private(path: &Path, writable: bool) -> Result<Self::Private> {
        let file = File::open(path)?;
        let options = memmap2::MmapOptions::new();
        Ok(if writable {
            (None, Some(unsafe { options.map_copy(&file)? }))
        } else {
            (Some(unsafe { options.map_copy_read_only(&file)? }), None)
        })
    }
}

/// What both kinds of mapping of memmap2 do, being slices.
macro_rules! reads {
    ($kind:ty, $map:ident, $of:expr) => {
        impl Reads for $kind {
            fn read(&self, off: u64, buf: &mut [u8]) -> Result<()> {
                let $map = self;
                let off = off as usize;
                buf.copy_from_slice(&$of[off..off + buf.len()]);
                Ok(())
            }

            fn view(&self, off: u64, len: u64, look: impl FnOnce(&[u8]) -> u64) -> Result<u64> {
                let $map = self;
                let off = off as usize;
                Ok(look(&$of[off..off + len as usize]))
            }

            fn chunks(&self, size: usize) -> Result<u64> {
                let $map = self;
                Ok($of[..].chunks(size).map(|chunk| u64::from(chunk[0])).sum())
            }

            fn each_chunk(
                &self,
                size: usize,
                most: u64,
                mut see: impl FnMut(&[u8]),
            ) -> Result<u64> {
                let $map = self;
                let mut seen = 0;
                for chunk in $of[..].chunks(size).take(most as usize) {
                    see(chunk);
                    seen += 1;
                }
                Ok(seen)
            }

            fn owned_chunks(&self, size: usize) -> Result<u64> {
                let $map = self;
                let first = |chunk: &[u8]| u64::from(std::hint::black_box(chunk.to_vec())[0]);
                Ok($of[..].chunks(size).map(first).sum())
            }

            fn pages(&self) -> Result<u64> {
                self.chunks(4096)
            }

            #[cfg(target_os = "linux")]
            fn touch(&self) -> Result<()> {
                let $map = self;
                Ok($of.advise(memmap2::Advice::PopulateRead)?)
            }

            #[cfg(not(target_os = "linux"))]
            fn touch(&self) -> Result<()> {
                unsupported("way to touch pages")
            }

            #[cfg(unix)]
            fn advise(&self) -> Result<()> {
                let $map = self;
                Ok($of.advise(memmap2::Advice::Sequential)?)
            }

            #[cfg(not(unix))]
            fn advise(&self) -> Result<()> {
                unsupported("advice")
            }
        }
    };
}

reads!(memmap2::Mmap, m, m);
reads!(Shared, s, s.map);

impl Writes for Shared {
    fn write(&mut self, off: u64, data: &[u8]) -> Result<()> {
        let off = off as usize;
        self.map[off..off + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(self.map.flush()?)
    }

    fn flush_range(&self, off: u64, len: u64) -> Result<()> {
        Ok(self.map.flush_range(off as usize, len as usize)?)
    }

    fn schedule_range(&self, _: u64, _: u64) -> Result<()> {
        unsupported("way to begin writing: its flush_async is msync with MS_ASYNC, which does nothing on Linux")
    }

    #[cfg(target_os = "linux")]
    fn resize(&mut self, size: u64) -> Result<()> {
        let options = memmap2::RemapOptions::new().may_move(true);
        // SAFETY: nobody looks at the mapping meanwhile, and it never reaches beyond the file.
        if size > self.map.len() as u64 {
            self.file.set_len(size)?;
            unsafe { self.map.remap(size as usize, options)? };
        } else {
            unsafe { self.map.remap(size as usize, options)? };
            self.file.set_len(size)?;
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn resize(&mut self, _: u64) -> Result<()> {
        let _ = &self.file;
        unsupported("way to resize")
    }

    fn count(&self, times: u64) -> Result<()> {
        // SAFETY: a mapping starts at a page and is not empty, and all access is atomic.
        let word = unsafe { AtomicU64::from_ptr(self.map.as_ptr().cast_mut().cast()) };
        for _ in 0..times {
            word.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
