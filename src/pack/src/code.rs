//! The modules' bytecode, in canonical form, gathered into blocks.
//!
//! Where a block ends depends on the names of modules alone, but for blocks that would be too
//! large: so a change in one module changes one block.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    num::NonZeroUsize,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use fs_err as fs;
use pybundle_bundle::{limits, name, pipeline, record::ModuleKind, writer::Packed};

use crate::{
    CodeCounts, Phase, Progress, Reason, Result, Skipped,
    compile::{CompileError, Interpreter, Pool, pycache},
    content::{self, Codec},
    marshal::{PythonVersion, canonical},
    modules::Module,
    previous::{Open, Previous},
    scan::{Found, Tree, What},
};

/// A path's hash is a multiple of this for one module in so many: it starts a new block, which
/// makes blocks of about 1 MiB.
const MODULES_A_BLOCK: u64 = 128;

/// No source takes longer to compile.
const COMPILE_LIMIT: Duration = Duration::from_secs(300);

/// Bytes of a `.pyc` before its code.
const PYC_HEADER: usize = 16;

/// A code block.
#[derive(Debug)]
pub(crate) struct Block {
    /// Its path in the bundle.
    pub(crate) path: Vec<u8>,
    /// Its modules, in order.
    pub(crate) modules: Vec<Coded>,
    /// Its modules are tests.
    pub(crate) tests: bool,
    /// Its content, compressed.
    pub(crate) packed: Packed,
}

/// A module in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coded {
    /// Its number.
    pub(crate) module: usize,
    /// Bytes of its code.
    pub(crate) len: u32,
    /// Where its file name stands; `None` for bytecode that keeps the name it was made with.
    pub(crate) filename_at: Option<u32>,
}

/// The modules of a block, and their code as it is stored.
pub(crate) type Stored = (Vec<Coded>, Packed);

/// All blocks.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    /// In order.
    pub(crate) blocks: Vec<Block>,
    /// How many modules, from where.
    pub(crate) counts: CodeCounts,
    /// Sources that don't compile.
    pub(crate) skipped: Vec<Skipped>,
}

/// What the making of code needs.
pub(crate) struct Maker<'a> {
    /// The files.
    pub(crate) tree: &'a Tree,
    /// The modules.
    pub(crate) modules: &'a [Module],
    /// What the interpreter is.
    pub(crate) python: &'a Interpreter,
    /// Its file.
    pub(crate) interpreter: &'a Path,
    /// The bundle that is replaced.
    pub(crate) previous: Option<&'a Previous>,
    /// zstd level.
    pub(crate) level: i32,
    /// Threads.
    pub(crate) jobs: usize,
    /// Is told about progress.
    pub(crate) progress: &'a dyn Progress,
}

/// Modules of one group that lie in one block, or in several if they are too large.
struct Segment {
    group: String,
    tests: bool,
    modules: Vec<usize>,
    bytes: u64,
}

/// One module's code, or why it has none.
enum Made {
    Kept(Vec<u8>, Option<u32>),
    Reused(Vec<u8>, Option<u32>),
    Compiled(Vec<u8>, Option<u32>),
    Nothing(Option<String>),
}

impl Maker<'_> {
    /// Makes the code of all modules; `group` names the group of each, tests after the others.
    ///
    /// # Errors
    /// [`crate::Error`] if a file changed or can't be read, or the interpreter doesn't start.
    pub(crate) fn make(&self, group: impl Fn(&Module) -> (bool, String)) -> Result<Codes> {
        let workers = NonZeroUsize::new(self.jobs).unwrap_or(NonZeroUsize::MIN);
        let pool = Pool::new(self.interpreter, workers, COMPILE_LIMIT)?;
        let segments = self.segments(group);
        let total: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let done = AtomicU64::new(0);
        let mut codes = Codes::default();
        let mut paths = HashSet::new();
        pipeline::run(
            self.jobs,
            &segments,
            // Source, reused bytecode, canonical form and block are in memory together.
            |segment| segment.bytes * 4,
            || Codec::new(self.level),
            |codec, segment| {
                let made = self.segment(&pool, codec, segment)?;
                let done = done.fetch_add(segment.bytes, Ordering::Relaxed) + segment.bytes;
                self.progress.update(Phase::Compile, done, Some(total));
                let held = made.blocks.iter().map(|(_, packed)| packed.len()).sum();
                Ok((made, held))
            },
            |number, made| {
                let segment = &segments[number];
                codes.counts.add(made.counts);
                codes.skipped.extend(made.skipped);
                for (modules, packed) in made.blocks {
                    codes.counts.stored += packed.len();
                    codes.blocks.push(Block {
                        path: block_path(&segment.group, &mut paths),
                        tests: segment.tests,
                        modules,
                        packed,
                    });
                }
                Ok::<_, crate::Error>(())
            },
        )?;
        Ok(codes)
    }

    fn segments(&self, group: impl Fn(&Module) -> (bool, String)) -> Vec<Segment> {
        let mut groups: BTreeMap<(bool, String), Vec<usize>> = BTreeMap::new();
        for (number, module) in self.modules.iter().enumerate() {
            if module.kind != ModuleKind::Extension && !module.is_init() {
                groups.entry(group(module)).or_default().push(number);
            }
        }
        let mut segments: Vec<Segment> = Vec::new();
        for ((tests, group), numbers) in groups {
            let mut first = true;
            for number in numbers {
                let module = &self.modules[number];
                let path = self
                    .tree
                    .get(module.file)
                    .map_or(&[][..], |found| &found.path);
                if first || hash(path).is_multiple_of(MODULES_A_BLOCK) {
                    segments.push(Segment {
                        group: group.clone(),
                        tests,
                        modules: Vec::new(),
                        bytes: 0,
                    });
                    first = false;
                }
                if let Some(segment) = segments.last_mut() {
                    segment.modules.push(number);
                    segment.bytes += self.tree.size(module.content);
                }
            }
        }
        segments
    }

    fn segment(&self, pool: &Pool, codec: &mut Codec, segment: &Segment) -> Result<MadeSegment> {
        let mut made = MadeSegment::default();
        let (mut modules, mut bytes) = (Vec::new(), Vec::new());
        let mut open = Open::default();
        for &number in &segment.modules {
            let module = &self.modules[number];
            let (code, filename_at) = match self.module(pool, module, codec, &mut open)? {
                Made::Kept(code, at) => {
                    made.counts.kept += 1;
                    (code, at)
                }
                Made::Reused(code, at) => {
                    made.counts.reused += 1;
                    (code, at)
                }
                Made::Compiled(code, at) => {
                    made.counts.compiled += 1;
                    (code, at)
                }
                Made::Nothing(why) => {
                    if let (Some(detail), Some(found)) = (why, self.tree.get(module.file)) {
                        made.counts.uncompiled += 1;
                        made.skipped.push(Skipped {
                            path: name::escape(&found.path),
                            reason: Reason::DoesNotCompile,
                            detail,
                        });
                    }
                    continue;
                }
            };
            if (bytes.len() + code.len()) as u64 > limits::BLOCK_BYTES {
                made.blocks
                    .extend(self.block(codec, &mut open, &mut modules, &mut bytes)?);
            }
            made.counts.bytes += code.len() as u64;
            modules.push(Coded {
                module: number,
                len: code.len() as u32,
                filename_at,
            });
            bytes.extend(code);
        }
        made.blocks
            .extend(self.block(codec, &mut open, &mut modules, &mut bytes)?);
        Ok(made)
    }

    /// Ends a block, if there is anything in it.
    fn block(
        &self,
        codec: &mut Codec,
        open: &mut Open,
        modules: &mut Vec<Coded>,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Stored>> {
        let (modules, bytes) = (std::mem::take(modules), std::mem::take(bytes));
        let Some(first) = modules.first() else {
            return Ok(None);
        };
        let first = &self.modules[first.module];
        let old = self.previous.and_then(|previous| {
            previous.block_of(self.tree, first, &bytes, &mut codec.decoder, open)
        });
        let packed = old.map_or_else(|| codec.compress(bytes), Ok)?;
        Ok(Some((modules, packed)))
    }

    fn module(
        &self,
        pool: &Pool,
        module: &Module,
        codec: &mut Codec,
        open: &mut Open,
    ) -> Result<Made> {
        let (Some(file), Some(held)) = (self.tree.get(module.file), self.tree.get(module.content))
        else {
            return Ok(Made::Nothing(None));
        };
        if let Some(previous) = self.previous
            && let Some((code, at)) = previous.code(self.tree, module, &mut codec.decoder, open)?
        {
            return Ok(Made::Kept(code, at));
        }
        if module.kind == ModuleKind::Sourceless {
            return self.sourceless(held);
        }
        let filename = name::escape(&file.path);
        let version = self.python.python_version();
        if let Some(pyc) = self.cached(&file.source, held)? {
            let code = pyc.get(PYC_HEADER..).unwrap_or_default();
            // What CPython would choke on is compiled anew.
            if let Ok(code) = canonical(code, version, &filename) {
                return Ok(Made::Reused(code.bytes, Some(code.filename_at)));
            }
        }
        let source = content::read(held)?;
        let marshalled = match pool.compile(&file.source, &source, 0) {
            Ok(marshalled) => marshalled,
            Err(error @ CompileError::Start { .. }) => return Err(error.into()),
            Err(error) => return Ok(Made::Nothing(Some(reason(&error)))),
        };
        Ok(match canonical(&marshalled, version, &filename) {
            Ok(code) => Made::Compiled(code.bytes, Some(code.filename_at)),
            Err(error) => Made::Nothing(Some(error.to_string())),
        })
    }

    /// The valid bytecode file of a source, whole.
    fn cached(&self, source: &Path, held: &Found) -> Result<Option<Vec<u8>>> {
        let (Some(tag), Some(magic)) = (&self.python.cache_tag, self.python.magic_bytes()) else {
            return Ok(None);
        };
        let What::File(stamp) = held.what else {
            return Ok(None);
        };
        let Some(path) = pycache::path(source, tag, 0) else {
            return Ok(None);
        };
        let pyc = match fs::read(path) {
            Ok(pyc) => pyc,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // Python goes on without bytecode that it can't read.
            Err(_) => return Ok(None),
        };
        let stamp = pycache::Stamp {
            mtime: stamp.modified.0,
            size: stamp.size,
        };
        // Only a hash needs the source.
        let hashed = pyc.get(4).is_some_and(|flags| flags & 1 != 0);
        let text = if hashed {
            content::read(held)?
        } else {
            Vec::new()
        };
        let version = self.python.python_version();
        let valid = pycache::valid(&pyc, magic, version, stamp, &text).is_some();
        Ok(valid.then_some(pyc))
    }

    /// Bytecode without source is packed as it is: it has no other file name than its own.
    fn sourceless(&self, held: &Found) -> Result<Made> {
        let pyc = content::read(held)?;
        let ours = self
            .python
            .magic_bytes()
            .is_some_and(|magic| pyc.starts_with(&magic));
        Ok(match pyc.get(PYC_HEADER..) {
            Some(code) if ours && self.is_code(code) => Made::Reused(code.to_vec(), None),
            // Importing it says what is wrong with it.
            _ => Made::Nothing(None),
        })
    }

    fn is_code(&self, code: &[u8]) -> bool {
        let version: PythonVersion = self.python.python_version();
        canonical(code, version, "x").is_ok()
    }
}

/// What a segment becomes.
#[derive(Default)]
struct MadeSegment {
    blocks: Vec<Stored>,
    counts: CodeCounts,
    skipped: Vec<Skipped>,
}

impl CodeCounts {
    fn add(&mut self, other: Self) {
        self.kept += other.kept;
        self.reused += other.reused;
        self.compiled += other.compiled;
        self.uncompiled += other.uncompiled;
        self.bytes += other.bytes;
        self.stored += other.stored;
    }
}

/// Without the path, which is said beside it.
fn reason(error: &CompileError) -> String {
    match error {
        CompileError::Source { message, .. } => message.clone(),
        error => error.to_string(),
    }
}

/// A free path for the next block of a group.
fn block_path(group: &str, taken: &mut HashSet<String>) -> Vec<u8> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let group: String = group
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .take(100)
        .collect();
    let mut number = 0_u32;
    loop {
        let path = format!("{}/{group}-{number}.code", limits::CODE_FOLDER);
        if taken.insert(path.clone()) {
            return path.into_bytes();
        }
        number += 1;
    }
}

/// FNV-1a, its halves mixed so that the low bits depend on all bytes.
fn hash(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_paths_are_plain_and_different() {
        let mut taken = HashSet::new();
        let mut path = |group| String::from_utf8(block_path(group, &mut taken)).unwrap();
        assert_eq!(path("a b"), "META-INF/pybundle/code/a_b-0.code");
        assert_eq!(path("a/b"), "META-INF/pybundle/code/a_b-1.code");
        assert_eq!(path("c"), "META-INF/pybundle/code/c-0.code");
    }

    #[test]
    fn one_path_in_so_many_starts_a_block() {
        let starts = (0..12_800)
            .filter(|n| hash(format!("lib/a/m{n}.py").as_bytes()).is_multiple_of(MODULES_A_BLOCK))
            .count();
        assert!((50..200).contains(&starts), "{starts}");
    }
}
