//! What a process is started with (user, directory, environment), and why a start is refused.

use crate::support::{Agent, Scratch, basic, sh};
use serde_json::{Value, json};
use std::fs;

fn start_as(agent: &Agent, user: &str, request: &Value) -> crate::support::Events {
    agent.stream("process.Process/Start", request, &[("authorization", &basic(user))])
}

#[test]
fn runs_as_the_user_of_the_basic_authorization_with_that_users_groups() {
    let agent = Agent::start();
    let run = start_as(&agent, "nobody", &sh("id -un; id -G; echo $USER $LOGNAME $HOME; umask")).run();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let nobody: Vec<&str> = passwd.lines().find(|l| l.starts_with("nobody:")).unwrap().split(':').collect();
    assert_eq!(run.text(), format!("nobody\n{}\nnobody nobody {}\n0022\n", nobody[3], nobody[5]));
    assert_eq!(agent.sh("id -un").run().text(), "root\n", "without a name it is root");
}

#[test]
fn starts_in_the_directory_that_is_asked_for_absolute_or_below_the_home() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let pwd = |cwd: Value| {
        let request = json!({ "process": { "cmd": "/bin/pwd", "cwd": cwd } });
        agent.start_process(&request).run().text().trim().to_owned()
    };
    assert_eq!(pwd(json!(scratch.path())), scratch.path().to_str().unwrap());
    for home in [json!(""), json!("~"), json!("."), Value::Null] {
        assert_eq!(pwd(home), "/root");
    }
}

#[test]
fn gives_processes_the_environment_of_the_request_and_a_search_path() {
    let agent = Agent::start();
    let envs = json!({ "A": "b c", "EMPTY": "", "WRENN_SANDBOX": "forged" });
    let request = json!({ "process": { "cmd": "env", "envs": envs } });
    let text = agent.start_process(&request).run().text();
    for line in ["A=b c", "EMPTY=", "WRENN_SANDBOX=true", "HOME=/root", "PATH=/usr/local/sbin:"] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{line} in {text}");
    }
    assert!(!text.contains("forged"));
}

#[test]
fn finds_a_command_by_the_path_of_its_own_environment() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    scratch.file("hello", "#!/bin/sh\necho hello $1\n", 0o755);
    let envs = json!({ "PATH": format!("/nowhere:{}", scratch.at("")) });
    let request = json!({ "process": { "cmd": "hello", "args": ["world"], "envs": envs } });
    assert_eq!(agent.start_process(&request).run().text(), "hello world\n");
}

#[test]
fn says_why_a_command_cannot_be_started() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let plain = scratch.file("plain", "no program\n", 0o644);
    let garbled = scratch.file("garbled", "no program\n", 0o755);
    let orphaned = scratch.file("orphaned", "#!/no/such/interpreter\n", 0o755);
    let process = |process: Value| json!({ "process": process });
    for (request, code, reason) in [
        (json!({}), "invalid_argument", "BAD_COMMAND"),
        (process(json!({ "cmd": "a\0b" })), "invalid_argument", "BAD_COMMAND"),
        (process(json!({ "cmd": "true", "args": ["a\0b"] })), "invalid_argument", "BAD_COMMAND"),
        (process(json!({ "cmd": "true", "args": ["x".repeat(3_000_000)] })), "invalid_argument", "BAD_COMMAND"),
        (process(json!({ "cmd": "no-such-command" })), "not_found", "COMMAND_NOT_FOUND"),
        (process(json!({ "cmd": "/no/such/command" })), "not_found", "COMMAND_NOT_FOUND"),
        (process(json!({ "cmd": orphaned })), "not_found", "COMMAND_NOT_FOUND"),
        (process(json!({ "cmd": plain })), "permission_denied", "COMMAND_NOT_PERMITTED"),
        (process(json!({ "cmd": "/tmp" })), "permission_denied", "COMMAND_NOT_PERMITTED"),
        (process(json!({ "cmd": garbled })), "failed_precondition", "COMMAND_NOT_EXECUTABLE"),
        (process(json!({ "cmd": "true", "envs": { "A=": "b" } })), "invalid_argument", "BAD_ENV"),
        (process(json!({ "cmd": "true", "envs": { "A": "b\0" } })), "invalid_argument", "BAD_ENV"),
        (process(json!({ "cmd": "true", "cwd": "/no/such/directory" })), "invalid_argument", "BAD_CWD"),
        (process(json!({ "cmd": "true", "cwd": "/etc/passwd" })), "invalid_argument", "BAD_CWD"),
        (process(json!({ "cmd": "true", "cwd": "~bob" })), "invalid_argument", "BAD_CWD"),
        (json!({ "process": { "cmd": "true" }, "tag": "x".repeat(257) }), "invalid_argument", "BAD_TAG"),
        (
            json!({ "process": { "cmd": "true" }, "pty": { "size": { "cols": 65536 } } }),
            "invalid_argument",
            "BAD_PTY_SIZE",
        ),
    ] {
        assert_eq!(agent.start_process(&request).refusal().words(), (code, reason));
    }
    assert!(agent.listed().is_empty(), "nothing is left of what did not start");
}

#[test]
fn refuses_users_that_do_not_exist_and_directories_that_a_user_may_not_enter() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let secret = scratch.at("secret");
    fs::create_dir(&secret).unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let unknown = start_as(&agent, "no-such-user", &sh("true")).refusal();
    assert_eq!(unknown.words(), ("invalid_argument", "UNKNOWN_USER"));
    assert!(unknown.message.contains("no-such-user"));
    let request = json!({ "process": { "cmd": "true", "cwd": secret } });
    assert_eq!(start_as(&agent, "nobody", &request).refusal().words(), ("permission_denied", "CWD_NOT_PERMITTED"));
    let broken = agent.stream("process.Process/Start", &sh("true"), &[("authorization", "Basic %%%")]).refusal();
    assert_eq!(broken.words(), ("invalid_argument", "BAD_AUTHORIZATION"));
}

#[test]
fn answers_for_processes_that_do_not_run_with_not_found() {
    let agent = Agent::start();
    let mut events = agent.sh("true");
    let ended = events.pid();
    events.rest();
    for selector in [json!({ "pid": ended }), json!({ "pid": std::process::id() }), json!({ "tag": "none" })] {
        for (method, request) in [
            ("SendSignal", json!({ "process": selector, "signal": 9 })),
            ("SendInput", json!({ "process": selector, "input": { "stdin": "" } })),
            ("CloseStdin", json!({ "process": selector })),
            ("Update", json!({ "process": selector })),
        ] {
            let refusal = agent.call(&format!("process.Process/{method}"), &request).unwrap_err();
            assert_eq!(refusal.words(), ("not_found", "PROCESS_NOT_FOUND"), "{method}");
        }
    }
    for selector in [json!({ "pid": std::process::id() }), json!({ "tag": "none" })] {
        let refusal = agent.stream("process.Process/Connect", &json!({ "process": selector }), &[]).refusal();
        assert_eq!(refusal.words(), ("not_found", "PROCESS_NOT_FOUND"));
    }
    let nameless = agent.call("process.Process/CloseStdin", &json!({})).unwrap_err();
    assert_eq!(nameless.words(), ("invalid_argument", "BAD_SELECTOR"));
}

#[test]
fn refuses_signals_that_do_not_exist_and_input_that_is_none() {
    let agent = Agent::start();
    let mut events = agent.start_process(&json!({ "process": { "cmd": "/bin/cat" } }));
    let process = json!({ "pid": events.pid() });
    for signal in [0, -9, 65] {
        let request = json!({ "process": process, "signal": signal });
        let refusal = agent.call("process.Process/SendSignal", &request).unwrap_err();
        assert_eq!(refusal.words(), ("invalid_argument", "BAD_SIGNAL"));
    }
    let refusal = agent.call("process.Process/SendInput", &json!({ "process": process })).unwrap_err();
    assert_eq!(refusal.words(), ("invalid_argument", "BAD_INPUT"));
    let resize = json!({ "process": process, "pty": {} });
    let refusal = agent.call("process.Process/Update", &resize).unwrap_err();
    assert_eq!(refusal.words(), ("failed_precondition", "NO_PTY"));
}
