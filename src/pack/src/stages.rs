//! The stages of a packing, one after another.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use pybundle_bundle::{Manifest, limits, manifest, name};

use crate::{
    Error, LEVELS, Phase, Progress, Reason, Request, Result, Seconds, Skipped, Summary,
    code::{Codes, Maker},
    compile::Pool,
    content::Reader,
    draft::Parts,
    environment::{self, Environment},
    exclude::Exclude,
    gather::{Gathered, Walked},
    groups::Groups,
    modules::{self, Module},
    scan::{Tree, What},
    site::Site,
    target::Target,
    write,
};

/// No source takes longer to compile.
const COMPILE_LIMIT: Duration = Duration::from_secs(300);

/// Packs an environment.
///
/// # Errors
/// [`Error`]; nothing is left behind, and the target is as it was.
pub fn pack(request: &Request, progress: &dyn Progress) -> Result<Summary> {
    let mut clock = Clock::start();
    if !LEVELS.contains(&request.level) {
        return Err(Error::Level { got: request.level });
    }
    let jobs = jobs(request.jobs);
    let exclude = Exclude::new(&request.exclude)?;
    progress.update(Phase::Scan, 0, None);
    let environment = Environment::open(&request.environment)?;
    let default = || Request::default_output(&environment.given);
    let target = Target::new(&request.output.clone().unwrap_or_else(default))?;

    let walked = Walked::new(
        environment,
        &exclude,
        request.stdlib,
        target.path(),
        progress,
    )?;
    clock.lap(|seconds| &mut seconds.scan);
    let Gathered {
        environment,
        roots,
        site,
        own,
        installed,
        tree,
        mut skipped,
        shared,
        needs,
        groups,
    } = walked.resolve(jobs, progress)?;
    clock.lap(|seconds| &mut seconds.libraries);

    let suffixes = &environment.python.extension_suffixes;
    let modules = modules::find(&tree, &site.sys_path, suffixes);
    let codes = code(
        &environment,
        &tree,
        &modules,
        &groups,
        request.level,
        jobs,
        progress,
    )?;
    skipped.extend(codes.skipped.iter().cloned());
    clock.lap(|seconds| &mut seconds.compile);

    let parts = Parts {
        tree: &tree,
        groups: &groups,
        modules: &modules,
        blocks: &codes.blocks,
        needs: &needs,
    };
    let (draft, sources) = parts.draft();
    let counts = counts(&tree, &modules, &codes, &groups);
    let manifest = Manifest {
        format: format!("{}.{}", limits::MAJOR, limits::MINOR),
        writer: concat!("pybundle ", env!("CARGO_PKG_VERSION")).to_owned(),
        python: manifest::Python {
            executable: own.executable.as_ref().map(|it| name::escape(&it.path)),
            libpython: own.libpython.as_ref().map(|it| name::escape(&it.path)),
            builds: shared.builds(&own),
            ..environment.to_manifest()
        },
        optimize: vec![0],
        glibc: shared.glibc(),
        roots: roots.to_manifest(),
        sys_path: site.entries().into_iter().map(name::escape).collect(),
        left_out: site.modules_left_out().map(name::escape).collect(),
        pth: site.lines.clone(),
        editable: site
            .editable
            .iter()
            .map(|outside| manifest::Editable {
                folder: outside.path.to_string_lossy().into_owned(),
                behind: outside.behind,
            })
            .collect(),
        mpi: shared.mpi(),
        counts: counts.clone(),
        options: manifest::Options {
            level: request.level,
            exclude: request.exclude.clone(),
            stdlib: request.stdlib,
        },
        installed,
    };
    let reader = Reader::new(&tree, &own, &groups, &needs);
    let content = write::Content {
        draft: &draft,
        manifest: &manifest,
        sources: &sources,
        blocks: &codes.blocks,
        reader: &reader,
    };
    let written = write::write(&content, &target, request.level, jobs, progress)?;
    clock.lap(|seconds| &mut seconds.write);
    let stuck = reader.stuck().into_iter();
    let stuck = stuck.filter_map(|position| tree.get(position));
    let stuck = stuck.map(|found| {
        let path = name::escape(&found.path);
        format!("`{path}` still names the prefix it was built for: the dynamic linker looks there")
    });

    skipped.extend(site.editable.iter().map(|outside| Skipped {
        path: outside.path.to_string_lossy().into_owned(),
        reason: Reason::Editable,
        detail: String::new(),
    }));
    skipped.sort();
    Ok(Summary {
        output: target.path().to_owned(),
        identity: written.identity.to_string(),
        files: counts.files,
        bytes_in: counts.bytes,
        bytes_out: written.file_len,
        links: counts.links,
        modules: modules.iter().filter(|module| !module.is_init()).count() as u64,
        code: codes.counts,
        groups: counts.groups,
        level: request.level,
        jobs,
        python: environment::version(&environment.python),
        skipped,
        warnings: shared
            .warnings()
            .into_iter()
            .chain(hooks(&site))
            .chain(stuck)
            .collect(),
        seconds: clock.finish(),
    })
}

/// Editable installs that put a finder of their own before ours.
fn hooks(site: &Site) -> impl Iterator<Item = String> + '_ {
    let hooks = site
        .lines
        .iter()
        .filter(|line| line.line.contains("__editable__"));
    hooks.map(|line| {
        let file = &line.file;
        format!(
            "editable install through an import hook, its modules are read where they are: `{file}`"
        )
    })
}

/// Threads where none are asked for: one for each core.
pub(crate) fn jobs(wanted: Option<usize>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    wanted.unwrap_or_else(cores).max(1)
}

fn code(
    environment: &Environment,
    tree: &Tree,
    modules: &[Module],
    groups: &Groups,
    level: i32,
    jobs: usize,
    progress: &dyn Progress,
) -> Result<Codes> {
    let workers = NonZeroUsize::new(jobs).unwrap_or(NonZeroUsize::MIN);
    let pool = Pool::new(&environment.interpreter, workers, COMPILE_LIMIT)?;
    let maker = Maker {
        tree,
        modules,
        python: &environment.python,
        pool: &pool,
        level,
        jobs,
        progress,
    };
    maker.make(|module| {
        let group = &groups.list[groups.of[module.file]];
        (group.is_tests(), group.name.clone())
    })
}

fn counts(tree: &Tree, modules: &[Module], codes: &Codes, groups: &Groups) -> manifest::Counts {
    let of = |kind: fn(&What) -> bool| tree.iter().filter(|found| kind(&found.what)).count() as u64;
    let coded: usize = codes.blocks.iter().map(|block| block.modules.len()).sum();
    debug_assert!(coded <= modules.len());
    manifest::Counts {
        files: of(|what| matches!(what, What::File(_))),
        bytes: (0..tree.len()).map(|position| tree.size(position)).sum(),
        links: of(|what| matches!(what, What::Link(_))),
        modules: coded as u64,
        code_bytes: codes.counts.bytes,
        uncompiled: codes.counts.uncompiled,
        groups: groups.list.len() as u64,
    }
}

/// Seconds of each stage.
struct Clock {
    start: Instant,
    lap: Instant,
    seconds: Seconds,
}

impl Clock {
    fn start() -> Self {
        let now = Instant::now();
        Self {
            start: now,
            lap: now,
            seconds: Seconds::default(),
        }
    }

    /// Ends a stage; `field` is where its time belongs.
    fn lap(&mut self, field: impl Fn(&mut Seconds) -> &mut f64) {
        *field(&mut self.seconds) += self.lap.elapsed().as_secs_f64();
        self.lap = Instant::now();
    }

    fn finish(mut self) -> Seconds {
        self.seconds.total = self.start.elapsed().as_secs_f64();
        self.seconds
    }
}
