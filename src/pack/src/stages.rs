//! The stages of a packing, one after another.

use std::{
    num::NonZeroUsize,
    time::{Instant, SystemTime},
};

use pybundle_bundle::{Manifest, limits, manifest, name};

use crate::{
    Error, LEVELS, Phase, Progress, Reason, Request, Result, Seconds, Skipped, Summary, WRITER,
    code::{Codes, Maker},
    content::Reader,
    draft::Parts,
    environment::{self, Environment},
    exclude::Exclude,
    gather::{Gathered, Walked, installed},
    groups::Groups,
    modules::{self, Module},
    previous::Previous,
    scan::{Tree, What},
    site::Site,
    stamps::Stamps,
    target::Target,
    write,
};

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
    let (began, python) = (SystemTime::now(), environment.to_manifest());
    let previous = Previous::open(target.path(), request, &python);
    let previous = previous.as_ref();

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
        installed: installed_then,
        tree,
        mut skipped,
        shared,
        needs,
        groups,
    } = walked.resolve(previous, jobs, progress)?;
    clock.lap(|seconds| &mut seconds.libraries);

    let suffixes = &environment.python.extension_suffixes;
    let modules = modules::find(&tree, &site.sys_path, suffixes);
    let maker = Maker {
        tree: &tree,
        modules: &modules,
        interpreter: &environment.interpreter,
        python: &environment.python,
        previous,
        level: request.level,
        jobs,
        progress,
    };
    let codes = maker.make(|module| {
        let group = &groups.list[groups.of[module.file]];
        (group.is_tests(), group.name.clone())
    })?;
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
        writer: WRITER.to_owned(),
        python: manifest::Python {
            executable: own.executable.as_ref().map(|it| name::escape(&it.path)),
            libpython: own.libpython.as_ref().map(|it| name::escape(&it.path)),
            builds: shared.builds(&own),
            ..python
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
        installed: installed_then,
    };
    let reader = Reader::new(&tree, &own, &groups, &needs);
    let content = write::Content {
        draft: &draft,
        manifest: &manifest,
        sources: &sources,
        blocks: &codes.blocks,
        reader: &reader,
        previous,
    };
    let written = write::write(&content, &target, request.level, jobs, progress)?;
    clock.lap(|seconds| &mut seconds.write);
    let stuck = reader.stuck().into_iter();
    let stuck = stuck.filter_map(|position| tree.get(position));
    let stuck: Vec<String> = stuck.map(|found| name::escape(&found.path)).collect();
    let stamps = Stamps::new(&tree, shared.seen(), began);

    // What is installed meanwhile may be in it by half, and no later look at times would tell.
    let moved = installed(&site, &roots).is_ok_and(|now| now != manifest.installed);
    let moved =
        moved.then(|| "the environment changed while it was packed: pack it again".to_owned());
    // The next packing does without, and takes longer.
    let unkept = request.cache.as_ref().and_then(|cache| {
        let saved = stamps.save(cache, target.path(), &written.identity);
        saved.err()
    });
    let unkept =
        unkept.map(|error| format!("the next packing can't tell what has changed: {error}"));
    let stuck = stuck.into_iter().map(|path| {
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
        kept: previous.map(Previous::kept).unwrap_or_default(),
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
            .chain(unkept)
            .chain(moved)
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
