//! A disk that can be filled: a small file system in memory, and a file that takes all space left on it. A user with
//! the right to mount mounts it directly. For other users it is mounted in a mount namespace of its own. One process
//! holds that namespace open, and others reach it through `/proc`.

use std::fs::{File, create_dir_all, remove_file};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Room for what a short run writes, several times.
pub const SMALL: Mebibytes = Mebibytes(64);

/// The size of a disk, which is memory.
#[derive(Debug, Clone, Copy)]
pub struct Mebibytes(pub u32);

const FILLER: &str = "filler";

/// Rest of the disk that is asked for at once, the last time byte by byte.
const PIECES: [usize; 3] = [256 * 1024, 4 * 1024, 1];

/// How long the name space may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A small file system. It goes when this is dropped.
pub struct SmallDisk {
    folder: PathBuf,
    held: MountState,
}

enum MountState {
    /// In our own name space.
    Mounted,
    /// In that of a process which does nothing else.
    By(Child),
}

/// The reason why no disk can be filled on this machine; `None` if one can be.
pub fn missing_requirement() -> Option<String> {
    let tried = tempfile::tempdir()
        .map_err(anyhow::Error::from)
        .and_then(|folder| SmallDisk::mount(&folder.path().join("disk"), SMALL));
    tried.err().map(|why| format!("{why:#}"))
}

impl SmallDisk {
    /// Mounts one at `folder`, which is made.
    ///
    /// # Errors
    /// When it cannot be mounted, nor in a name space of its own.
    pub fn mount(folder: &Path, Mebibytes(size): Mebibytes) -> anyhow::Result<Self> {
        create_dir_all(folder)?;
        let size = format!("size={size}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder)
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            let (folder, held) = (folder.to_owned(), MountState::Mounted);
            return Ok(Self { folder, held });
        }
        Self::in_name_space(folder, &size)
    }

    fn in_name_space(folder: &Path, size: &str) -> anyhow::Result<Self> {
        // `exec`, so that the process we know is the one that holds it.
        let script = format!(
            "mount -t tmpfs -o {size} tmpfs \"$0\" && : >\"$0/{FILLER}\" && exec sleep infinity"
        );
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .arg(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("no file system can be mounted, and there is no `unshare`")?;
        let inside = folder.strip_prefix("/").context("a folder from the root")?;
        let reached = Path::new("/proc")
            .join(holder.id().to_string())
            .join("root")
            .join(inside);
        let began = Instant::now();
        while !reached.join(FILLER).exists() {
            let ended = holder.try_wait()?;
            if ended.is_some() || began.elapsed() > PATIENCE {
                let _ = holder.kill();
                let _ = holder.wait();
                bail!("no file system can be mounted, nor in a name space of our own");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let held = MountState::By(holder);
        Ok(Self {
            folder: reached,
            held,
        })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Fills the rest of the disk.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(FILLER))?;
        for piece in PIECES {
            let piece = vec![b'x'; piece];
            loop {
                match filler.write_all(&piece) {
                    Ok(()) => {}
                    Err(why) if why.kind() == ErrorKind::StorageFull => break,
                    Err(why) => return Err(why.into()),
                }
            }
        }
        Ok(())
    }

    /// Frees the space that [`Self::fill`] took.
    pub fn free(&self) -> anyhow::Result<()> {
        Ok(remove_file(self.folder.join(FILLER))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        match &mut self.held {
            MountState::Mounted => {
                // Lazily: a process that was killed a moment ago may still be there.
                let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
            }
            MountState::By(holder) => {
                let _ = holder.kill();
                let _ = holder.wait();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_until_it_is_freed() {
        if let Some(why) = missing_requirement() {
            eprintln!("NOT TRIED: {why}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mounted = SmallDisk::mount(&folder.path().join("a"), SMALL).unwrap();
        let held = SmallDisk::in_name_space(
            &{
                let folder = folder.path().join("b");
                create_dir_all(&folder).unwrap();
                folder
            },
            "size=64m",
        );
        for disk in [Some(mounted), held.ok()].into_iter().flatten() {
            let write = || std::fs::write(disk.folder().join("file"), [0; 10_000]);
            disk.fill().unwrap();
            assert_eq!(write().unwrap_err().kind(), ErrorKind::StorageFull);
            disk.free().unwrap();
            write().unwrap();
        }
    }
}
