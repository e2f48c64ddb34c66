//! Who decodes what: byte-range locks on the image's claims file, one byte for each entry.
//!
//! They are open-file-description locks: two threads with a [`Claims`] each exclude one another as
//! two processes do, and the kernel frees a claim when its owner dies.

use std::fs::{File, OpenOptions};
use std::path::Path;

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};

use crate::{Error, Result, error::io_at};

/// One worker's own description of the claims file; it holds one claim at a time.
pub(crate) struct Claims {
    file: File,
}

impl Claims {
    /// A description of its own.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| io_at("cannot open", path, error))?;
        Ok(Self { file })
    }

    /// Claims the entries from `first` to `last`; false if somebody else has some of them.
    pub(crate) fn try_claim(&self, first: u32, last: u32) -> Result<bool> {
        match self.set(libc::F_WRLCK, first, last) {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(error) => Err(Error::Io(error.into())),
        }
    }

    /// Gives the claim back.
    pub(crate) fn free(&self, first: u32, last: u32) {
        // Unlocking what is locked can't fail; if it did, closing the file frees the claim.
        let _ = self.set(libc::F_UNLCK, first, last);
    }

    fn set(&self, kind: i32, first: u32, last: u32) -> nix::Result<()> {
        let range = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: first.into(),
            l_len: i64::from(last.saturating_sub(first)) + 1,
            l_pid: 0,
        };
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&range)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_excludes_others_until_it_is_given_back_or_its_owner_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claims");
        std::fs::write(&path, "").unwrap();
        let (one, two) = (Claims::open(&path).unwrap(), Claims::open(&path).unwrap());
        assert!(one.try_claim(3, 5).unwrap());
        assert!(!two.try_claim(5, 9).unwrap());
        assert!(two.try_claim(6, 9).unwrap());
        one.free(3, 5);
        assert!(two.try_claim(5, 5).unwrap());
        drop(two);
        assert!(one.try_claim(0, 9).unwrap());
    }
}
