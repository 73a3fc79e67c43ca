//! Files that are read whole, and files that get their name when they are complete.

use std::io;
use std::path::Path;

use crate::env::{Env, File, OpenMode};
use crate::error::Error;
use crate::limits::PIECE_BYTES;

/// One of two files that take turns; `None`: there is none. What a killed process was writing may be in the disk's
/// cache only: it is durable when this returns, so that overwriting the other file leaves one whatever happens.
pub(crate) async fn read_durably<E: Env>(env: &E, path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match env.open(path, OpenMode::READ).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(Error::io("open", path))?,
    };
    let size = file.size().map_err(Error::io("stat", path))?;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let piece = file.read_at(bytes.len() as u64, PIECE_BYTES).await.map_err(Error::io("read", path))?;
        if piece.is_empty() {
            break;
        }
        bytes.extend_from_slice(&piece);
    }
    file.sync().await.map_err(Error::io("sync", path))?;
    file.close().await.map_err(Error::io("close", path))?;
    Ok(Some(bytes))
}

/// Makes a file durable, contents first, then its name.
pub(crate) async fn publish<E: Env>(
    env: &E,
    file: E::File,
    temporary: &Path,
    path: &Path,
) -> Result<(), Error> {
    file.sync().await.map_err(Error::io("sync", temporary))?;
    file.close().await.map_err(Error::io("close", temporary))?;
    env.rename(temporary, path).await.map_err(Error::io("rename", temporary))?;
    let dir = path.parent().expect("a file has a directory");
    env.sync_dir(dir).await.map_err(Error::io("sync", dir))
}
