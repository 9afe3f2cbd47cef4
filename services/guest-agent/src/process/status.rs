//! Exits in the words that E2B clients know.

use super::children::Exit;

impl Exit {
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal { number, .. } => 128 + number,
        }
    }

    pub fn describe(self) -> String {
        match self {
            Self::Code(code) => format!("exit status {code}"),
            Self::Signal { number, dumped_core } => {
                let core = if dumped_core { " (core dumped)" } else { "" };
                format!("signal: {}{core}", signal_name(number))
            }
        }
    }
}

fn signal_name(number: i32) -> String {
    let name = match number {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGUSR1 => "user defined signal 1",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGUSR2 => "user defined signal 2",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        libc::SIGXCPU => "CPU time limit exceeded",
        libc::SIGXFSZ => "file size limit exceeded",
        libc::SIGSYS => "bad system call",
        _ => return format!("signal {number}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_as_e2b_clients_expect() {
        assert_eq!(Exit::Code(3).describe(), "exit status 3");
        let killed = Exit::Signal { number: 9, dumped_core: false };
        assert_eq!((killed.code(), killed.describe().as_str()), (137, "signal: killed"));
        let crashed = Exit::Signal { number: 11, dumped_core: true };
        assert_eq!(crashed.describe(), "signal: segmentation fault (core dumped)");
        assert_eq!(Exit::Signal { number: 40, dumped_core: false }.describe(), "signal: signal 40");
    }
}
