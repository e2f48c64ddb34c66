//! One folder as the slow file system shows it: read-only, every question through the server.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::Context;
use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, Request,
};

use crate::server::{Kind, Server};

// How long the kernel may answer for us: never where a process' first question must be seen; for
// ever, whether a folder on a path is there; a moment, what came with a name just looked up.
const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);
const A_MOMENT: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::ZERO;

/// A file system that shows a folder.
#[derive(Debug)]
pub(crate) struct View {
    /// The folder itself, which is out of reach by its path once this is mounted over it.
    folder: File,
    number: usize,
    server: Arc<Server>,
    files: Mutex<Files>,
    opened: Mutex<HashMap<u64, Arc<Opened>>>,
    next: AtomicU64,
}

/// The files that the kernel has heard of, by their number here less one; the folder is the first.
#[derive(Debug, Default)]
struct Files {
    paths: Vec<PathBuf>,
    numbers: HashMap<PathBuf, u64>,
}

/// What an open handle is of.
#[derive(Debug)]
enum Opened {
    File(File),
    Folder(PathBuf, Vec<(u64, FileType, OsString)>),
}

type Result<T> = std::result::Result<T, Errno>;

impl View {
    /// The view of a folder, which counts as the server's folder `number`.
    ///
    /// # Errors
    /// If it can't be opened.
    pub(crate) fn new(path: &Path, number: usize, server: Arc<Server>) -> anyhow::Result<Self> {
        let folder =
            File::open(path).with_context(|| format!("can't open `{}`", path.display()))?;
        let root = PathBuf::new();
        Ok(Self {
            folder,
            number,
            server,
            files: Mutex::new(Files {
                paths: vec![root.clone()],
                numbers: HashMap::from([(root, 1)]),
            }),
            opened: Mutex::default(),
            next: AtomicU64::new(1),
        })
    }

    /// Where a file really is.
    fn real(&self, path: &Path) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}/.", self.folder.as_raw_fd())).join(path)
    }

    fn path(&self, file: INodeNo) -> Result<PathBuf> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(file.0)
            .ok()
            .and_then(|number| number.checked_sub(1));
        index
            .and_then(|index| files.paths.get(index).cloned())
            .ok_or(Errno::ENOENT)
    }

    /// The number of a file that is there.
    fn number_of(&self, path: &Path) -> u64 {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = files.numbers.get(path) {
            return number;
        }
        files.paths.push(path.to_owned());
        let number = files.paths.len() as u64;
        files.numbers.insert(path.to_owned(), number);
        number
    }

    fn attributes(&self, path: &Path) -> Result<FileAttr> {
        let found = fs::symlink_metadata(self.real(path))?;
        let kind = FileType::from_std(found.file_type()).ok_or(Errno::EIO)?;
        let time = |seconds: i64, nanoseconds: i64| {
            let whole = Duration::new(
                seconds.unsigned_abs(),
                u32::try_from(nanoseconds).unwrap_or(0),
            );
            SystemTime::UNIX_EPOCH + whole
        };
        Ok(FileAttr {
            ino: INodeNo(self.number_of(path)),
            size: found.size(),
            blocks: found.blocks(),
            atime: time(found.atime(), found.atime_nsec()),
            mtime: time(found.mtime(), found.mtime_nsec()),
            ctime: time(found.ctime(), found.ctime_nsec()),
            crtime: SystemTime::UNIX_EPOCH,
            kind,
            perm: u16::try_from(found.mode() & 0o7777).unwrap_or(0),
            nlink: u32::try_from(found.nlink()).unwrap_or(u32::MAX),
            uid: found.uid(),
            gid: found.gid(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn look_up(&self, thread: u32, parent: INodeNo, name: &OsStr) -> Result<FileAttr> {
        let path = self.path(parent)?.join(name);
        let found = self.attributes(&path);
        let kind = if found.is_ok() {
            Kind::Lookup
        } else {
            Kind::Absent
        };
        self.server.ask(thread, self.number, &path, kind);
        found
    }

    fn keep(&self, opened: Opened) -> FileHandle {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        let mut all = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(handle, Arc::new(opened));
        FileHandle(handle)
    }

    fn kept(&self, handle: FileHandle) -> Result<Arc<Opened>> {
        let all = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    fn drop_handle(&self, handle: FileHandle) {
        let mut all = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&handle.0);
    }

    fn read_part(&self, handle: FileHandle, offset: u64, size: u32) -> Result<Vec<u8>> {
        let opened = self.kept(handle)?;
        let Opened::File(file) = &*opened else {
            return Err(Errno::EISDIR);
        };
        let mut part = vec![0; size as usize];
        let mut length = 0;
        while length < part.len() {
            match file.read_at(&mut part[length..], offset + length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        part.truncate(length);
        self.server.transfer(self.number, length);
        Ok(part)
    }

    fn list(&self, thread: u32, file: INodeNo) -> Result<FileHandle> {
        let path = self.path(file)?;
        self.server
            .ask_again(thread, self.number, &path, Kind::List);
        let mut entries = vec![
            (file.0, FileType::Directory, OsString::from(".")),
            (file.0, FileType::Directory, OsString::from("..")),
        ];
        for entry in fs::read_dir(self.real(&path))? {
            let entry = entry?;
            if let Some(kind) = FileType::from_std(entry.file_type()?) {
                let name = entry.file_name();
                entries.push((self.number_of(&path.join(&name)), kind, name));
            }
        }
        Ok(self.keep(Opened::Folder(path, entries)))
    }
}

impl Filesystem for View {
    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.look_up(request.pid(), parent, name) {
            Ok(found) if found.kind == FileType::Directory => {
                reply.entry_with_ttls(&NEVER, &FOR_EVER, &found, Generation(0));
            }
            Ok(found) => reply.entry_with_ttls(&A_MOMENT, &NEVER, &found, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, request: &Request, file: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self
            .path(file)
            .and_then(|path| Ok((self.attributes(&path)?, path)))
        {
            Ok((found, path)) => {
                // A file's came with its name.
                if found.kind != FileType::Directory {
                    return reply.attr(&A_MOMENT, &found);
                }
                self.server
                    .ask(request.pid(), self.number, &path, Kind::Attributes);
                reply.attr(&NEVER, &found);
            }
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, request: &Request, file: INodeNo, reply: ReplyData) {
        let link = self
            .path(file)
            .and_then(|path| Ok((fs::read_link(self.real(&path))?, path)));
        match link {
            Ok((link, path)) => {
                self.server
                    .ask(request.pid(), self.number, &path, Kind::Link);
                reply.data(link.as_os_str().as_bytes());
            }
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, file: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self
            .path(file)
            .and_then(|path| Ok(File::open(self.real(&path))?))
        {
            Ok(file) => reply.opened(self.keep(Opened::File(file)), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_part(handle, offset, size) {
            Ok(part) => reply.data(&part),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.drop_handle(handle);
        reply.ok();
    }

    fn opendir(&self, request: &Request, file: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.list(request.pid(), file) {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        request: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let opened = match self.kept(handle) {
            Ok(opened) => opened,
            Err(error) => return reply.error(error),
        };
        let Opened::Folder(path, entries) = &*opened else {
            return reply.error(Errno::ENOTDIR);
        };
        let rest = entries
            .get(usize::try_from(offset).unwrap_or(usize::MAX)..)
            .unwrap_or(&[]);
        if !rest.is_empty() {
            self.server
                .ask_again(request.pid(), self.number, path, Kind::List);
        }
        for (index, (number, kind, name)) in rest.iter().enumerate() {
            if reply.add(INodeNo(*number), offset + index as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.drop_handle(handle);
        reply.ok();
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }
}
