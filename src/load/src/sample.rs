//! Small bundles for tests, made with the writer alone: some hot, some cold, all kinds of entries.

use std::path::Path;

use pybundle_bundle::{
    Draft, Manifest, Writer,
    draft::{DraftBlock, DraftEntry, DraftGroup, DraftModule},
    installed,
    manifest::{Counts, Installed, Options, Python, Root},
    record::{ENTRY_LAZY, ENTRY_SOURCE, Kind, ModuleKind},
    writer::{Compressor, Packed},
};

/// How large a sample is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Hot code blocks, of 8 modules each.
    pub(crate) hot_blocks: usize,
    /// Cold code blocks.
    pub(crate) cold_blocks: usize,
    /// Bytes of each module's code.
    pub(crate) code_len: usize,
    /// Files of the eager group, hot.
    pub(crate) hot_files: usize,
    /// Cold groups.
    pub(crate) groups: usize,
    /// Files of each.
    pub(crate) group_files: usize,
    /// Bytes of each file.
    pub(crate) file_len: usize,
}

/// A few files of each kind.
pub(crate) const SMALL: Shape = Shape {
    hot_blocks: 3,
    cold_blocks: 1,
    code_len: 3000,
    hot_files: 20,
    groups: 3,
    group_files: 10,
    file_len: 5000,
};

/// Contents of so many bytes don't compress.
const LARGE: usize = 8 << 20;

/// Where distributions are installed.
pub(crate) const SITE: &str = "lib/site-packages";

/// Modules of a block.
pub(crate) const MODULES: usize = 8;

/// Bytes different for each seed: text-like, compressible ones; of a large file, random ones.
pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if len >= LARGE || state.is_multiple_of(4) {
            bytes.extend(state.to_le_bytes());
        } else {
            bytes.extend(b"def function(argument): return None\n");
        }
    }
    bytes.truncate(len);
    bytes
}

/// The path of a module's source.
pub(crate) fn module_path(number: usize) -> String {
    format!("lib/site-packages/pure/m{number}.py")
}

/// A module's code, with its file name in front of what follows `prefix`; where that is.
pub(crate) fn module_code(number: usize, len: usize, prefix: &str) -> (Vec<u8>, u32) {
    let name = format!("{prefix}{}", module_path(number));
    let mut code = content(number as u64 + 1, 100);
    let at = code.len() as u32;
    code.push(b'u' | 0x80);
    code.extend((name.len() as u32).to_le_bytes());
    code.extend(name.as_bytes());
    code.extend(content(number as u64 + 1_000_000, len));
    (code, at)
}

struct Making {
    draft: Draft,
    packed: Vec<Packed>,
    compressor: Compressor,
}

impl Making {
    fn add(
        &mut self,
        path: &str,
        kind: Kind,
        flags: u16,
        group: Option<usize>,
        bytes: &[u8],
    ) -> usize {
        let mode = if path.contains(".so") { 0o755 } else { 0o644 };
        let path = path.as_bytes().to_vec();
        self.draft.entries.push(DraftEntry {
            path,
            kind,
            mode,
            flags,
            group,
        });
        let packed = self.compressor.pack(bytes).expect("compress");
        self.packed.push(packed);
        self.draft.entries.len() - 1
    }

    fn block(&mut self, number: usize, len: usize, group: Option<usize>) {
        let mut all = Vec::new();
        for module in number * MODULES..(number + 1) * MODULES {
            let (code, at) = module_code(module, len, "");
            // One module in eight has no file name to put the path into.
            let at = (module % MODULES != 7).then_some(at);
            self.draft.modules.push(DraftModule {
                folder: b"lib/site-packages/pure".to_vec(),
                name: format!("m{module}").into_bytes(),
                kind: ModuleKind::Source,
                file: 0,
                package: false,
                code: Some((code.len() as u32, at)),
                group,
            });
            all.extend(code);
        }
        let path = format!("META-INF/pybundle/code/{number:04}");
        let entry = self.add(&path, Kind::Code, 0, None, &all);
        self.draft.blocks.push(DraftBlock {
            entry,
            modules: MODULES,
        });
    }
}

/// A manifest of an environment at `original`.
pub(crate) fn manifest(original: &Path) -> Manifest {
    let text = |text: &str| text.to_owned();
    Manifest {
        format: text("1.0"),
        writer: text("sample"),
        python: Python {
            implementation: text("cpython"),
            version: text("3.11.7"),
            version_text: text("3.11.7"),
            cache_tag: text("cpython-311"),
            magic: text("a70d0d0a"),
            soabi: text("cpython-311-x86_64-linux-gnu"),
            platform: text("linux-x86_64"),
            free_threaded: false,
            extension_suffixes: vec![text(".so")],
            prefix: original.display().to_string(),
            base_prefix: text("/usr"),
            executable: None,
            libpython: None,
            builds: Vec::new(),
        },
        optimize: vec![0],
        glibc: None,
        roots: vec![Root {
            folder: String::new(),
            paths: vec![original.display().to_string()],
        }],
        sys_path: vec![text(SITE)],
        left_out: Vec::new(),
        pth: Vec::new(),
        editable: Vec::new(),
        mpi: Vec::new(),
        counts: Counts::default(),
        options: Options::default(),
        installed: installed::names(&original.join(SITE))
            .ok()
            .flatten()
            .map(|names| Installed {
                folder: text(SITE),
                names,
            })
            .into_iter()
            .collect(),
    }
}

/// Writes a sample bundle of an environment at `original`.
pub(crate) fn write(path: &Path, original: &Path, shape: Shape) {
    let mut making = Making {
        draft: Draft::default(),
        packed: Vec::new(),
        compressor: Compressor::new(3).expect("level"),
    };
    making.draft.groups.push(DraftGroup {
        name: "eager".to_owned(),
        companions: vec![],
        eager: true,
    });
    for group in 0..shape.groups {
        // Each group but the last brings the next one.
        let next = (group + 1 < shape.groups).then_some(group + 2);
        making.draft.groups.push(DraftGroup {
            name: format!("g{group}"),
            companions: next.into_iter().collect(),
            eager: false,
        });
    }
    for block in 0..shape.hot_blocks {
        // The first one's modules are of the last group.
        let group = (block == 0 && shape.groups > 0).then_some(shape.groups);
        making.block(block, shape.code_len, group);
    }
    for file in 0..shape.hot_files {
        let bytes = content(file as u64 + 77, shape.file_len);
        making.add(
            &format!("share/hot/d{}/f{file}.so", file % 3),
            Kind::File,
            0,
            Some(0),
            &bytes,
        );
    }
    making.draft.hot = making.draft.entries.len();
    for block in shape.hot_blocks..shape.hot_blocks + shape.cold_blocks {
        making.block(block, shape.code_len, None);
    }
    for group in 0..shape.groups {
        let folder = format!("lib/site-packages/g{group}");
        for file in 0..shape.group_files {
            let bytes = content((group * 1000 + file) as u64 + 9, shape.file_len);
            making.add(
                &format!("{folder}/f{file}.so"),
                Kind::File,
                0,
                Some(group + 1),
                &bytes,
            );
        }
        let big = content(group as u64, shape.file_len * 20);
        making.add(
            &format!("{folder}/big.so"),
            Kind::File,
            0,
            Some(group + 1),
            &big,
        );
        making.add(
            &format!("{folder}/link.so"),
            Kind::Link,
            0,
            Some(group + 1),
            b"big.so",
        );
        making.add(
            &format!("{folder}/empty"),
            Kind::Folder,
            0,
            Some(group + 1),
            b"",
        );
        making.add(
            &format!("{folder}/zero"),
            Kind::File,
            0,
            Some(group + 1),
            b"",
        );
        making.add(
            &format!("{folder}/tests/t.py"),
            Kind::File,
            ENTRY_LAZY,
            Some(group + 1),
            b"pass\n",
        );
    }
    // Placed before imports begin, although cold ones lie before it.
    let late = content(5, shape.file_len);
    making.add("share/late.so", Kind::File, 0, Some(0), &late);
    let modules = (shape.hot_blocks + shape.cold_blocks) * MODULES;
    for module in 0..modules {
        let flags = ENTRY_SOURCE | ENTRY_LAZY;
        let text = format!("number = {module}\n");
        let entry = making.add(
            &module_path(module),
            Kind::File,
            flags,
            None,
            text.as_bytes(),
        );
        making.draft.modules[module].file = entry;
    }
    let file = std::fs::File::create(path).expect("create");
    let out = std::io::BufWriter::new(file);
    let mut writer = Writer::new(out, &making.draft, &manifest(original)).expect("draft");
    for packed in &making.packed {
        writer.append(packed).expect("append");
    }
    writer.finish().expect("finish");
}
