//! What the host tells the guest: Init, and envd's /init.

use crate::support::{Agent, Exchange, basic, sh};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const INIT: &str = "wrenn.agent.v1.AgentService/Init";

fn init() -> Value {
    json!({ "sandboxId": format!("cl-{}", "7".repeat(25)), "templateId": "debian" })
}

fn with(mut request: Value, name: &str, value: impl Into<Value>) -> Value {
    request[name] = value.into();
    request
}

fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Days to a date, by Howard Hinnant's algorithm.
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[test]
fn gives_every_later_process_the_ids_the_environment_the_user_and_the_directory() {
    let agent = Agent::start();
    let request = with(with(with(init(), "env", json!({ "A": "b" })), "defaultUser", "nobody"), "defaultCwd", "/usr");
    let answer = agent.call(INIT, &request).unwrap();
    assert_eq!(answer["bootId"].as_str().map(str::len), Some(36));
    assert_eq!(answer["agentVersion"], env!("CARGO_PKG_VERSION"));
    let script = "echo $WRENN_SANDBOX_ID $WRENN_TEMPLATE_ID $WRENN_SANDBOX $A; id -un; pwd";
    let text = agent.sh(script).run().text();
    assert_eq!(text, format!("cl-{} debian true b\nnobody\n/usr\n", "7".repeat(25)));
}

#[test]
fn replaces_what_the_init_before_it_set() {
    let agent = Agent::start();
    agent.call(INIT, &with(init(), "env", json!({ "A": "1", "B": "1" }))).unwrap();
    agent.call(INIT, &with(with(init(), "env", json!({ "A": "2" })), "templateId", "node")).unwrap();
    assert_eq!(agent.sh("echo $A [$B] $WRENN_TEMPLATE_ID").run().text(), "2 [] node\n");
}

#[test]
fn refuses_what_is_wrong_with_its_reason_and_changes_nothing() {
    let agent = Agent::start();
    agent.call(INIT, &with(init(), "env", json!({ "A": "before" }))).unwrap();
    let huge = "x".repeat(300_000);
    for (name, value, reason) in [
        ("sandboxId", json!(""), "BAD_SANDBOX_ID"),
        ("sandboxId", json!("cl-../../../../etc/passwd.."), "BAD_SANDBOX_ID"),
        ("templateId", json!(""), "BAD_TEMPLATE_ID"),
        ("templateId", json!("a b"), "BAD_TEMPLATE_ID"),
        ("hostname", json!("-a"), "BAD_HOSTNAME"),
        ("env", json!({ "A=": "b" }), "BAD_ENV"),
        ("env", json!({ "A": huge }), "BAD_ENV"),
        ("time", json!("1969-12-31T23:59:59Z"), "BAD_TIME"),
        ("nameservers", json!(["dns.example"]), "BAD_NAMESERVER"),
        ("nameservers", json!(["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]), "BAD_NAMESERVER"),
        ("defaultUser", json!("no-such-user"), "UNKNOWN_USER"),
        ("defaultCwd", json!("usr"), "BAD_CWD"),
        ("defaultCwd", json!("/no/such/directory"), "BAD_CWD"),
    ] {
        let request = with(with(init(), "env", json!({ "A": "after" })), name, value);
        let refusal = agent.call(INIT, &request).unwrap_err();
        assert_eq!(refusal.words(), ("invalid_argument", reason), "{name}");
    }
    assert_eq!(agent.sh("echo $A").run().text(), "before\n");
}

#[test]
fn drops_every_connection_but_the_callers_when_the_guest_was_frozen() {
    let agent = Agent::start();
    let mut idle = Exchange::open(agent.address);
    idle.send("GET", "/health", &[], b"");
    assert_eq!(idle.answer().status, 204);
    let mut watched = agent.start_process(&json!({ "process": { "cmd": "/bin/cat" }, "tag": "survivor" }));
    let pid = watched.pid();
    let in_an_hour = rfc3339(SystemTime::now() + Duration::from_secs(3600));
    agent.call(INIT, &with(init(), "time", in_an_hour)).unwrap();
    assert!(idle.is_closed_soon());
    let mut again = agent.stream("process.Process/Connect", &json!({ "process": { "tag": "survivor" } }), &[]);
    assert_eq!(again.pid(), pid, "processes live on");
    agent.call("process.Process/CloseStdin", &json!({ "process": { "pid": pid } })).unwrap();
    again.rest();
}

#[test]
fn drops_every_connection_but_the_callers_before_a_freeze_and_serves_on_after_it() {
    let agent = Agent::start();
    let mut idle = Exchange::open(agent.address);
    idle.send("GET", "/health", &[], b"");
    assert_eq!(idle.answer().status, 204);
    let mut watched = agent.start_process(&json!({ "process": { "cmd": "/bin/cat" }, "tag": "survivor" }));
    let pid = watched.pid();
    agent.call("wrenn.agent.v1.AgentService/Quiesce", &json!({})).unwrap();
    assert!(idle.is_closed_soon());
    agent.call(INIT, &init()).unwrap();
    let mut again = agent.stream("process.Process/Connect", &json!({ "process": { "tag": "survivor" } }), &[]);
    assert_eq!(again.pid(), pid, "processes live on");
    agent.call("process.Process/CloseStdin", &json!({ "process": { "pid": pid } })).unwrap();
    again.rest();
}

#[test]
fn keeps_connections_when_the_clock_only_drifted() {
    let agent = Agent::start();
    let mut idle = Exchange::open(agent.address);
    agent.call(INIT, &with(init(), "time", rfc3339(SystemTime::now()))).unwrap();
    idle.send("GET", "/health", &[], b"");
    assert_eq!(idle.answer().status, 204);
}

#[test]
fn answers_health_and_envds_init_over_plain_http() {
    let agent = Agent::start();
    assert_eq!(agent.http("GET", "/health", &[], b"").status, 204);
    let body = json!({
        "envVars": { "A": "b" }, "defaultUser": "nobody", "defaultWorkdir": "/usr", "timestamp": "2026-01-02T03:04:05+01:00",
    });
    assert_eq!(agent.http("POST", "/init", &[], body.to_string().as_bytes()).status, 204);
    assert_eq!(agent.sh("echo $A; id -un; pwd").run().text(), "b\nnobody\n/usr\n");
    assert_eq!(agent.http("POST", "/init", &[], b"{}").status, 204);
    assert_eq!(agent.sh("echo $A").run().text(), "b\n", "absent members leave what is set");
    assert_eq!(agent.http("PUT", "/init", &[], b"{}").status, 405);
}

#[test]
fn refuses_an_envd_init_that_is_wrong_with_400() {
    let agent = Agent::start();
    for body in [
        r#"{"timestamp":"yesterday"}"#,
        r#"{"timestamp":17}"#,
        r#"{"envVars":{"A=":"b"}}"#,
        r#"{"defaultUser":"no-such-user"}"#,
        r#"{"defaultWorkdir":"usr"}"#,
        "not json",
    ] {
        let answer = agent.http("POST", "/init", &[], body.as_bytes());
        assert_eq!(answer.status, 400, "{body}");
        assert!(serde_json::from_slice::<Value>(&answer.body).unwrap()["message"].is_string());
    }
}

#[test]
fn once_a_token_is_set_serves_only_who_shows_it() {
    let agent = Agent::start();
    let set = |headers: &[(&str, &str)], token: &str| {
        agent.http("POST", "/init", headers, json!({ "accessToken": token }).to_string().as_bytes()).status
    };
    assert_eq!(set(&[], "secret"), 204);
    assert_eq!(set(&[], "mine"), 401, "a token cannot be replaced by who does not know it");
    let json_type = ("content-type", "application/json");
    let list = |headers: &[(&str, &str)]| agent.http("POST", "/process.Process/List", headers, b"{}").status;
    assert_eq!(list(&[json_type]), 401);
    assert_eq!(list(&[json_type, ("x-access-token", "wrong")]), 401);
    assert_eq!(list(&[json_type, ("x-access-token", "secret")]), 200);
    assert_eq!(agent.http("GET", "/health", &[], b"").status, 204);
    assert!(agent.call(INIT, &init()).is_ok(), "the host needs none");
    let headers = [("x-access-token", "secret"), ("authorization", &basic("nobody"))];
    assert_eq!(agent.stream("process.Process/Start", &sh("id -un"), &headers).run().text(), "nobody\n");
}
