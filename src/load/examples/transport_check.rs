//! Tries a transport plug-in in a real MPI job: `mpiexec -n N transport_check PLUGIN SCENARIO`.
//!
//! Each scenario is one thing that a job does, or that goes wrong in one; it ends with status 0, or
//! as its description says.

#![expect(unsafe_code, reason = "plays a program that calls MPI on its own")]
#![expect(clippy::print_stdout, reason = "a program")]

use std::{
    env,
    error::Error,
    ffi::c_int,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
    ptr, thread,
    time::{Duration, Instant},
};

use libloading::os::unix::Library;
use pybundle_load::transport::{
    Group, Launcher, Lowest, Pace, Transport, Wait, World, choice, mapped,
    plugin::{self, Plugin},
};

type Outcome = Result<(), Box<dyn Error>>;

const USAGE: &str = "transport_check PLUGIN \
    all|huge|speed|abort|absent|late|late-bulk|outstanding|second-init|init-again|init-before|exec|\
    fork";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().collect();
    let [_, path, scenario] = arguments.as_slice() else {
        eprintln!("usage: {USAGE}");
        return ExitCode::from(2);
    };
    match run(PathBuf::from(path), scenario) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            // A launcher that ends the job may leave unread what was printed.
            std::thread::sleep(std::time::Duration::from_secs(2));
            plugin::abort_now(1);
        }
    }
}

fn run(path: PathBuf, scenario: &str) -> Outcome {
    // Without a launcher, or with one for a single rank, this is a world of one.
    let launcher = Launcher::detect();
    let paths = [path];
    let plugin = Plugin::load(match &launcher {
        Some(launcher) => choice::choose(&paths, &mapped::libraries()?, launcher)?,
        None => &paths[0],
    })?;
    if scenario == "init-before" {
        mpi_init()?;
    }
    let timeout = if scenario == "absent" { 5 } else { 60 };
    let mut world = World::start(plugin, &wait("MPI to start").timeout(timeout))?;
    if let Some(launcher) = launcher {
        launcher.check(world.library(), plugin.flavour(), world.size(Group::WORLD))?;
    }
    if world.initialised_here() == (scenario == "init-before") {
        return Err("MPI was initialised by the wrong one".into());
    }
    world.join(&mut wait("all ranks to join").timeout(timeout))?;
    match scenario {
        "all" => all(&mut world)?,
        "huge" => huge(&mut world)?,
        "speed" => speed(&mut world)?,
        // Ends with status 7.
        "abort" => {
            if world.rank(Group::WORLD) == 1 {
                world.abort(7);
            }
            thread::sleep(Duration::from_secs(30));
        }
        // `mpiexec -n 1 transport_check … absent : -n 1 other` ends with status 1 after 5 s.
        "absent" => {}
        // Ends with status 1 after 1 s, by the error of the ranks that waited.
        "late" => late(&mut world, 5)?,
        "late-bulk" => late_bulk(&mut world)?,
        // The program finalises while a call of ours is under way.
        "outstanding" => {
            if late(&mut world, 2).is_ok() != (world.rank(Group::WORLD) == 0) {
                return Err("the wait should have timed out, but for root".into());
            }
            call("MPI_Finalize")?;
        }
        "second-init" => {
            mpi_init()?;
            let rank = world
                .lowest(Group::WORLD, 0, &mut wait("a reduction"))?
                .rank;
            println!("second init answered, lowest rank {rank}");
            call("MPI_Finalize")?;
        }
        // MPI is released and another program takes this process over: MPICH 5 and Open MPI 5 allow
        // it to start MPI once more, MPICH 4.0 and Open MPI 4 don't.
        "exec" => {
            world.finalise()?;
            let path = plugin.path();
            return Err(Command::new(env::current_exe()?)
                .arg(path)
                .arg("all")
                .exec()
                .into());
        }
        // MPI is released and the program starts it in the same process: no library allows that,
        // and ends the job.
        "init-again" => {
            world.finalise()?;
            mpi_init()?;
        }
        "init-before" => {
            all(&mut world)?;
            call("MPI_Finalize")?;
        }
        "fork" => fork(&mut world)?,
        _ => return Err(format!("no such scenario: {scenario}").into()),
    }
    world.finalise()?;
    plugin::finalise_now()?;
    Ok(())
}

fn wait(what: &'static str) -> Wait<'static> {
    Wait::asleep(what, Some(Duration::from_secs(60)))
}

/// Shorter ways to change a wait.
trait Terms {
    fn timeout(self, seconds: u64) -> Self;
}

impl Terms for Wait<'_> {
    fn timeout(self, seconds: u64) -> Self {
        Self {
            timeout: Some(Duration::from_secs(seconds)),
            ..self
        }
    }
}

/// Every call of the transport, checked.
fn all(world: &mut World) -> Outcome {
    let (rank, size) = (world.rank(Group::WORLD), world.size(Group::WORLD));
    let node = world.split_shared(Group::WORLD, &mut wait("the node"))?;
    let leader = world.rank(node) == 0;
    let leaders = world.split(
        Group::WORLD,
        leader.then_some(0),
        rank,
        &mut wait("leaders"),
    )?;
    if leaders.is_some() != leader {
        return Err("a group for the wrong ranks".into());
    }
    // Every second rank, the other way round.
    let key = size - rank;
    let half = world.split(Group::WORLD, Some(rank % 2), key, &mut wait("halves"))?;
    let half = half.ok_or("no half")?;
    if world.rank(half) != world.size(half) - 1 - rank / 2 {
        return Err("wrong order by key".into());
    }
    if leader {
        println!("rank {rank} leads a node of {}", world.size(node));
    }
    for pace in [Pace::Block, Pace::Nap, Pace::Sleep] {
        for length in [0, 1, 1 << 20, (1 << 20) + 1, 200_000_000] {
            let seconds = broadcast(world, length, size - 1, pace)?;
            if rank == 0 && length > 1_000_000 {
                println!("broadcast of {length} bytes, {pace:?}: {seconds:.3} s");
            }
        }
    }
    for codes in [[3, 3], [0, -5], [i64::MAX, i64::MIN]] {
        let code = codes[usize::from(rank == size - 1)];
        let lowest = world.lowest(Group::WORLD, code, &mut wait("a reduction"))?;
        let expected = if size > 1 && codes[1] == codes[0] {
            0
        } else {
            size - 1
        };
        if lowest
            != (Lowest {
                code: codes[1],
                rank: expected,
            })
        {
            return Err(format!("wrong lowest: {lowest:?}").into());
        }
    }
    for scale in [0, 1, 1000, 3_000_000] {
        let part = vec![rank as u8; rank as usize * scale];
        let root = size / 2;
        let parts = world.gather(Group::WORLD, root, &part, &mut wait("parts"))?;
        let all = (0..size).map(|rank| vec![rank as u8; rank as usize * scale]);
        if parts != (rank == root).then(|| all.collect()) {
            return Err("wrong parts".into());
        }
    }
    world.barrier(half, &mut wait("a barrier"))?;
    for group in [half, node].into_iter().chain(leaders) {
        world.free(group);
    }
    let found = mapped::libraries()?;
    if found.len() != 1 || Some(found[0].flavour) != world.flavour() {
        return Err(format!("wrong libraries: {found:?}").into());
    }
    if rank == 0 {
        let level = world.thread_level().name();
        println!(
            "{}: {size} ranks, {level}, all calls right",
            world.library()
        );
    }
    Ok(())
}

/// Broadcasts and checks bytes that depend on their place; gives the seconds.
fn broadcast(
    world: &mut World,
    length: usize,
    root: u32,
    pace: Pace,
) -> Result<f64, Box<dyn Error>> {
    let byte = |at: usize| (at ^ (at >> 8) ^ (at >> 16) ^ (at >> 24)) as u8;
    let mut bytes = vec![0; length];
    if world.rank(Group::WORLD) == root {
        bytes = (0..length).map(byte).collect();
    }
    world.barrier(Group::WORLD, &mut wait("a barrier"))?;
    let start = Instant::now();
    world.broadcast(
        Group::WORLD,
        root,
        &mut bytes,
        &mut wait("bytes").pace(pace),
    )?;
    let seconds = start.elapsed().as_secs_f64();
    match bytes.iter().enumerate().find(|&(at, &got)| got != byte(at)) {
        None => Ok(seconds),
        Some((at, _)) => Err(format!("wrong byte at {at} of {length}, {pace:?}").into()),
    }
}

/// 128 MB in chunks of 8 MB, as a load sends them, at every pace.
fn speed(world: &mut World) -> Outcome {
    let mut chunk = vec![1; 8 << 20];
    for round in 0..4 {
        for pace in [Pace::Block, Pace::Nap, Pace::Sleep] {
            world.barrier(Group::WORLD, &mut wait("a barrier").pace(Pace::Nap))?;
            let start = Instant::now();
            for _ in 0..16 {
                world.broadcast(Group::WORLD, 0, &mut chunk, &mut wait("bytes").pace(pace))?;
            }
            let seconds = start.elapsed().as_secs_f64();
            if round > 0 && world.rank(Group::WORLD) == 0 {
                println!("128 MB in 8 MB chunks, {pace:?}: {seconds:.3} s");
            }
        }
    }
    Ok(())
}

fn huge(world: &mut World) -> Outcome {
    for pace in [Pace::Block, Pace::Nap] {
        let seconds = broadcast(world, 3 << 30, 0, pace)?;
        if world.rank(Group::WORLD) == 0 {
            println!("broadcast of 3 GiB, {pace:?}: {seconds:.1} s");
        }
    }
    Ok(())
}

/// Root comes to a reduction after the others have given up.
fn late(world: &mut World, seconds: u64) -> Outcome {
    if world.rank(Group::WORLD) == 0 {
        thread::sleep(Duration::from_secs(seconds));
    }
    world.lowest(Group::WORLD, 0, &mut wait("a late rank").timeout(1))?;
    Ok(())
}

/// Root comes to a long broadcast too late: the others end the job.
fn late_bulk(world: &mut World) -> Outcome {
    if world.rank(Group::WORLD) == 0 {
        thread::sleep(Duration::from_secs(20));
    }
    let mut bytes = vec![0; 8 << 20];
    let mut wait = wait("root's bytes").timeout(1).pace(Pace::Nap);
    world.broadcast(Group::WORLD, 0, &mut bytes, &mut wait)?;
    Ok(())
}

/// A child that ends must neither finalise MPI nor end the job.
fn fork(world: &mut World) -> Outcome {
    // SAFETY: the child only calls us and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let finalised = plugin::finalise_now().is_ok();
        plugin::abort_now(if finalised { 3 } else { 4 });
    }
    let mut status = 0;
    // SAFETY: `status` is writable.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    if libc::WEXITSTATUS(status) != 3 {
        return Err(format!("the child ended with {status:#x}").into());
    }
    all(world)
}

/// Calls MPI as a program would that was linked with it.
fn call(name: &str) -> Outcome {
    type Function = unsafe extern "C" fn() -> c_int;
    let process = Library::this();
    // SAFETY: the functions called have this type.
    let status = unsafe { process.get::<Function>(name)?() };
    if status == 0 {
        Ok(())
    } else {
        Err(format!("{name} failed: {status}").into())
    }
}

fn mpi_init() -> Outcome {
    type Init = unsafe extern "C" fn(*mut c_int, *mut *mut *mut i8) -> c_int;
    let process = Library::this();
    // SAFETY: MPI_Init has this type and needs no arguments.
    let status = unsafe { process.get::<Init>("MPI_Init")?(ptr::null_mut(), ptr::null_mut()) };
    if status == 0 {
        Ok(())
    } else {
        Err(format!("MPI_Init failed: {status}").into())
    }
}
