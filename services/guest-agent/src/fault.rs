//! The closed set of reasons that callers can branch on, and the one place that maps them to codes.

use crate::proto::google::rpc::ErrorInfo;
use connectrpc::{ConnectError, ErrorCode, ErrorDetail};

const DOMAIN: &str = "agent.wrenn";

macro_rules! reasons {
    ($($variant:ident $wire:literal $code:ident;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason { $($variant),* }

        impl Reason {
            pub fn wire(self) -> (&'static str, ErrorCode) {
                match self { $(Self::$variant => ($wire, ErrorCode::$code)),* }
            }
        }
    };
}

reasons! {
    BadAccessToken "BAD_ACCESS_TOKEN" InvalidArgument;
    BadAuthorization "BAD_AUTHORIZATION" InvalidArgument;
    BadCommand "BAD_COMMAND" InvalidArgument;
    BadCwd "BAD_CWD" InvalidArgument;
    BadDepth "BAD_DEPTH" InvalidArgument;
    BadEntropy "BAD_ENTROPY" InvalidArgument;
    BadEnv "BAD_ENV" InvalidArgument;
    BadHostname "BAD_HOSTNAME" InvalidArgument;
    BadInput "BAD_INPUT" InvalidArgument;
    BadMode "BAD_MODE" InvalidArgument;
    BadNameserver "BAD_NAMESERVER" InvalidArgument;
    BadPath "BAD_PATH" InvalidArgument;
    BadPtySize "BAD_PTY_SIZE" InvalidArgument;
    BadSandboxId "BAD_SANDBOX_ID" InvalidArgument;
    BadSelector "BAD_SELECTOR" InvalidArgument;
    BadSignal "BAD_SIGNAL" InvalidArgument;
    BadTag "BAD_TAG" InvalidArgument;
    BadTemplateId "BAD_TEMPLATE_ID" InvalidArgument;
    BadTime "BAD_TIME" InvalidArgument;
    CommandNotExecutable "COMMAND_NOT_EXECUTABLE" FailedPrecondition;
    CommandNotFound "COMMAND_NOT_FOUND" NotFound;
    CommandNotPermitted "COMMAND_NOT_PERMITTED" PermissionDenied;
    CwdNotPermitted "CWD_NOT_PERMITTED" PermissionDenied;
    HasPty "HAS_PTY" FailedPrecondition;
    Internal "INTERNAL" Internal;
    IsADirectory "IS_A_DIRECTORY" InvalidArgument;
    MoveRefused "MOVE_REFUSED" FailedPrecondition;
    NoProcessLeft "NO_PROCESS_LEFT" ResourceExhausted;
    NoPty "NO_PTY" FailedPrecondition;
    NoSpaceLeft "NO_SPACE_LEFT" ResourceExhausted;
    NotADirectory "NOT_A_DIRECTORY" InvalidArgument;
    PathExists "PATH_EXISTS" AlreadyExists;
    PathNotFound "PATH_NOT_FOUND" NotFound;
    PathNotPermitted "PATH_NOT_PERMITTED" PermissionDenied;
    ProcessNotFound "PROCESS_NOT_FOUND" NotFound;
    ReplayGone "REPLAY_GONE" OutOfRange;
    StdinClosed "STDIN_CLOSED" FailedPrecondition;
    TooManyEntries "TOO_MANY_ENTRIES" ResourceExhausted;
    TooManyTransfers "TOO_MANY_TRANSFERS" ResourceExhausted;
    TooManyWatchers "TOO_MANY_WATCHERS" ResourceExhausted;
    Unauthenticated "UNAUTHENTICATED" Unauthenticated;
    UnknownUser "UNKNOWN_USER" InvalidArgument;
    WatcherNotFound "WATCHER_NOT_FOUND" NotFound;
    WatchOverflow "WATCH_OVERFLOW" ResourceExhausted;
}

/// A refusal on its way to the caller.
#[derive(Debug, Clone)]
pub struct Fault {
    pub reason: Reason,
    pub message: String,
    /// What ErrorInfo tells besides.
    pub metadata: Vec<(&'static str, String)>,
}

impl Fault {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), metadata: Vec::new() }
    }

    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    /// Something that only a bug or a broken guest can cause.
    pub fn internal(what: &str, cause: impl std::fmt::Display) -> Self {
        Self::new(Reason::Internal, format!("{what}: {cause}"))
    }
}

impl From<Fault> for ConnectError {
    fn from(fault: Fault) -> Self {
        let (reason, code) = fault.reason.wire();
        let metadata = fault.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let info = ErrorInfo { reason: reason.into(), domain: DOMAIN.into(), metadata, ..Default::default() };
        ConnectError::new(code, fault.message).with_detail(ErrorDetail::from_message("google.rpc.ErrorInfo", &info))
    }
}

pub type Outcome<T> = Result<T, Fault>;
