//! The system calls of a tracer, as safe functions over plain numbers.
//!
//! The program is seized before it starts, with a seccomp filter that stops it once at each system
//! call: half the stops of plain ptrace, and none at all for `sched_yield`, which waiting MPI ranks
//! call by the million. The filter needs `no_new_privs`, so set-user-id programs run without their
//! privilege below it.
#![expect(
    unsafe_code,
    reason = "ptrace, fork and seccomp have no safe interface in std"
)]
#![expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "the kernel's interface passes flags, numbers and addresses as words of either sign"
)]

use std::{
    ffi::{CString, OsString, c_int, c_long, c_uint, c_void},
    io,
    os::unix::ffi::OsStrExt,
    ptr,
};

/// A thread or process number.
pub(crate) type Pid = libc::pid_t;

/// What a thread of the traced program stopped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is about to make a system call.
    Enter,
    /// A system call has returned.
    Leave,
    /// It has replaced its program; the number is the thread's former one.
    Exec(Pid),
    /// It forked, or started a thread; the number is the new one.
    Fork(Pid),
    /// A signal is about to be delivered.
    Signal(c_int),
    /// Job control has stopped it.
    Group,
    /// Any other report of the kernel.
    Other,
}

/// A report of the kernel about one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// It stopped and waits to be resumed.
    Stopped(Pid, Stop),
    /// It ended with an exit status.
    Exited(Pid, c_int),
    /// A signal ended it.
    Killed(Pid, c_int),
}

/// How to let a stopped thread go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// To its next system call, delivering a signal if not 0.
    Run(c_int),
    /// To the end of the system call that it is entering.
    UntilLeave,
    /// Nowhere: it stays stopped until job control continues it.
    Listen,
}

/// A system call that is about to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// Its number in the kernel's table for this machine.
    pub(crate) number: c_long,
    /// Its arguments.
    pub(crate) args: [u64; 6],
}

/// Starts a program under trace.
///
/// # Errors
/// If a process can't be made, or tracing is forbidden here (a container's seccomp profile, Yama).
pub(crate) fn spawn(command: &[OsString]) -> io::Result<Pid> {
    let words: Vec<CString> = command
        .iter()
        .map(|word| CString::new(word.as_bytes()))
        .collect::<Result<_, _>>()?;
    let mut argv: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
    argv.push(ptr::null());
    let mut go = [0; 2];
    // SAFETY: `go` has room for the two descriptors.
    check(unsafe { libc::pipe2(go.as_mut_ptr(), libc::O_CLOEXEC) }.into())?;
    // SAFETY: this process has one thread, so the child may call anything after the fork.
    let child = unsafe { libc::fork() };
    check(child.into())?;
    if child == 0 {
        // SAFETY: `argv` ends with a null pointer and its strings live in `words`.
        unsafe { start(go, argv.as_ptr()) }
    }
    let options = libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_EXITKILL;
    // SAFETY: seizing reads no memory of this process; the options are passed by value.
    let seized =
        check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, child, 0usize, options as usize) });
    // SAFETY: both descriptors are ours; the byte lives on this stack. Closing the end without a
    // byte in it tells the child to give up.
    unsafe {
        if seized.is_ok() {
            libc::write(go[1], ptr::from_ref(&1u8).cast(), 1);
        }
        libc::close(go[0]);
        libc::close(go[1]);
        if seized.is_err() {
            libc::waitpid(child, ptr::null_mut(), 0);
        }
    }
    seized.map(|_| child)
}

/// The child's side of [`spawn`]: waits until it is seized, filters its calls, becomes the program.
///
/// # Safety
/// To be called in a freshly forked child, with `argv` ending in a null pointer.
unsafe fn start(go: [c_int; 2], argv: *const *const libc::c_char) -> ! {
    // SAFETY: plain system calls on descriptors and pointers that the caller vouches for; the
    // filter program outlives the call that copies it.
    unsafe {
        libc::close(go[1]);
        let mut byte = 0u8;
        if libc::read(go[0], ptr::from_mut(&mut byte).cast(), 1) != 1 {
            libc::_exit(1);
        }
        let mut filter = filter();
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) != 0
        {
            libc::perror(c"fscount: can't install the seccomp filter".as_ptr());
            libc::_exit(126);
        }
        libc::execvp(*argv, argv);
        libc::perror(*argv);
        libc::_exit(127)
    }
}

/// A filter that lets `sched_yield` pass and stops at any other system call.
fn filter() -> [libc::sock_filter; 4] {
    let statement = |code: c_uint, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    [
        // The number of the call is the first word of what the filter looks at.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: libc::SYS_sched_yield as u32,
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_TRACE),
    ]
}

/// Waits for the next report about any traced thread; `None` when no thread is left.
///
/// # Errors
/// What `waitpid` says.
pub(crate) fn wait() -> io::Result<Option<Event>> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid place for the result.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if pid >= 0 {
            return Ok(Some(event(pid, status)));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => return Ok(None),
            _ => return Err(error),
        }
    }
}

fn event(pid: Pid, status: c_int) -> Event {
    if libc::WIFEXITED(status) {
        return Event::Exited(pid, libc::WEXITSTATUS(status));
    }
    if libc::WIFSIGNALED(status) {
        return Event::Killed(pid, libc::WTERMSIG(status));
    }
    let signal = libc::WSTOPSIG(status);
    let stop = match status >> 16 {
        0 if signal == libc::SIGTRAP | 0x80 => Stop::Leave,
        0 => Stop::Signal(signal),
        libc::PTRACE_EVENT_SECCOMP => Stop::Enter,
        libc::PTRACE_EVENT_EXEC => Stop::Exec(message(pid)),
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
            Stop::Fork(message(pid))
        }
        libc::PTRACE_EVENT_STOP
            if matches!(
                signal,
                libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
            ) =>
        {
            Stop::Group
        }
        _ => Stop::Other,
    };
    Event::Stopped(pid, stop)
}

/// The number that comes with some stops; 0 if the thread is gone already.
fn message(pid: Pid) -> Pid {
    let mut number: libc::c_ulong = 0;
    // SAFETY: the kernel writes one long into `number`.
    unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, pid, 0usize, &raw mut number) };
    number as Pid
}

/// Lets a stopped thread go on. A thread that was killed meanwhile is no error.
///
/// # Errors
/// What `ptrace` says.
pub(crate) fn resume(pid: Pid, how: Resume) -> io::Result<()> {
    let (request, signal) = match how {
        Resume::Run(signal) => (libc::PTRACE_CONT, signal),
        Resume::UntilLeave => (libc::PTRACE_SYSCALL, 0),
        Resume::Listen => (libc::PTRACE_LISTEN, 0),
    };
    // SAFETY: these requests take numbers only.
    match check(unsafe { libc::ptrace(request, pid, 0usize, signal as usize) }) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        _ => Ok(()),
    }
}

/// The system call that a thread stopped with [`Stop::Enter`] is about to make.
pub(crate) fn call(pid: Pid) -> Option<Call> {
    let info = syscall_info(pid)?;
    if info.op != libc::PTRACE_SYSCALL_INFO_SECCOMP {
        return None;
    }
    // SAFETY: `op` says which member of the union the kernel filled.
    let seccomp = unsafe { info.u.seccomp };
    Some(Call {
        number: seccomp.nr as c_long,
        args: seccomp.args,
    })
}

/// The result of the call that a thread stopped with [`Stop::Leave`] has made; negative: errno.
pub(crate) fn result(pid: Pid) -> Option<i64> {
    let info = syscall_info(pid)?;
    if info.op != libc::PTRACE_SYSCALL_INFO_EXIT {
        return None;
    }
    // SAFETY: `op` says which member of the union the kernel filled.
    Some(unsafe { info.u.exit }.sval)
}

fn syscall_info(pid: Pid) -> Option<libc::ptrace_syscall_info> {
    // SAFETY: a structure of numbers, for which all zeros are valid.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of_val(&info);
    // SAFETY: the kernel writes at most `size` bytes into `info`.
    let got = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, &raw mut info) };
    (got > 0).then_some(info)
}

/// The bytes of a C string in another process, without its end; `None` if it can't be read.
pub(crate) fn read_string(pid: Pid, address: u64) -> Option<Vec<u8>> {
    const PAGE: u64 = 4096;
    let mut text = Vec::new();
    let mut at = address;
    while text.len() < libc::PATH_MAX as usize {
        // Up to the end of the page: the next one may not exist.
        let mut page = [0u8; PAGE as usize];
        let length = (PAGE - at % PAGE) as usize;
        let local = libc::iovec {
            iov_base: page.as_mut_ptr().cast(),
            iov_len: length,
        };
        let remote = libc::iovec {
            iov_base: at as *mut c_void,
            iov_len: length,
        };
        // SAFETY: at most `length` bytes go into `page`, which has that many; the kernel checks
        // the other process' address.
        let got =
            unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        let part = page.get(..usize::try_from(got).ok()?)?;
        if let Some(end) = part.iter().position(|&byte| byte == 0) {
            text.extend_from_slice(&part[..end]);
            return Some(text);
        }
        if part.is_empty() {
            return None;
        }
        text.extend_from_slice(part);
        at += part.len() as u64;
    }
    None
}

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
