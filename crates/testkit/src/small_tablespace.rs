//! A database with its tables on a small disk that can be filled: PostgreSQL itself raises the error
//! then (53100). Its log and its other databases are on a disk with room.

use std::fs::{DirBuilder, Permissions, metadata, set_permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::database_faults::Database;
use crate::small_disk::{Mebibytes, SmallDisk};

/// The small disk of a database. The database has to be dropped before [`SmallTablespace::remove`].
pub struct SmallTablespace {
    disk: SmallDisk,
    name: String,
    // After the disk, which is mounted there.
    _folder: TempDir,
}

impl SmallTablespace {
    /// Moves a database without connections; `server` is any other database of its server.
    ///
    /// # Errors
    /// When no disk can be mounted, or the server cannot use it.
    pub async fn create(server: &Database, name: &str, size: Mebibytes) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("hookline-small-disk-")
            .tempdir()?;
        // The server may be another user's.
        set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let disk = SmallDisk::mount(&folder.path().join("disk"), size)?;
        let tables = disk.folder().join("tables");
        DirBuilder::new().mode(0o700).create(&tables)?;
        let data = server.sql("SHOW data_directory").await?;
        let owner = metadata(&data).with_context(|| data.clone())?;
        chown(&tables, Some(owner.uid()), Some(owner.gid()))?;
        let tables = tables.to_str().context("a folder that is UTF-8")?;
        let tablespace = format!("small_{name}");
        for sql in [
            format!("CREATE TABLESPACE {tablespace} LOCATION '{tables}'"),
            format!("ALTER DATABASE {name} SET TABLESPACE {tablespace}"),
        ] {
            server.sql(&sql).await?;
        }
        Ok(Self {
            disk,
            name: tablespace,
            _folder: folder,
        })
    }

    pub fn disk(&self) -> &SmallDisk {
        &self.disk
    }

    /// Takes it away from the server.
    pub async fn remove(self, server: &Database) -> anyhow::Result<()> {
        let sql = format!("DROP TABLESPACE {}", self.name);
        server.sql(&sql).await.map(drop)
    }
}
