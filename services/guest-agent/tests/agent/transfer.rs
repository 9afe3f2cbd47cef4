//! `/files`: contents of files over plain HTTP, as E2B's clients send and fetch them.

use crate::support::{Agent, Answer, Exchange, Scratch, descriptors, eventually, resident, small_disk, threads};
use serde_json::json;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

const RAW: (&str, &str) = ("content-type", "application/octet-stream");
const TOKEN: &str = "a-token-of-at-least-thirty-two-characters";

fn at(path: &str, more: &str) -> String {
    format!("/files?path={}{more}", path.replace('%', "%25").replace('+', "%2B").replace(' ', "+"))
}

fn get(agent: &Agent, path: &str, headers: &[(&str, &str)]) -> Answer {
    agent.http("GET", &at(path, ""), headers, b"")
}

fn put(agent: &Agent, path: &str, more: &str, body: &[u8]) -> Answer {
    agent.http("POST", &at(path, more), &[RAW], body)
}

fn told(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["reason"].as_str().unwrap().to_owned())
}

fn refused(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

/// Everything in a directory, hidden names included.
fn names(dir: &Scratch) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn nobody() -> u32 {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    passwd.lines().find(|l| l.starts_with("nobody:")).unwrap().split(':').nth(2).unwrap().parse().unwrap()
}

#[test]
fn writes_and_reads_back_any_bytes_with_their_length() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let content: Vec<u8> = (0..3_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
    for (name, content) in [("a b+ü%41.bin", content.as_slice()), ("empty", b"")] {
        let path = scratch.at(&format!("new/dir/{name}"));
        let answer = put(&agent, &path, "", content);
        assert_eq!((answer.status, answer.json()), (200, json!([{ "name": name, "path": path, "type": "file" }])));
        assert!(fs::read(&path).unwrap() == content);
        let answer = get(&agent, &path, &[]);
        assert_eq!((answer.status, answer.header("content-length")), (200, content.len().to_string().as_str()));
        assert!(answer.body == content);
        assert_eq!(answer.header("content-type"), "application/octet-stream");
    }
    let disposition = "attachment; filename*=UTF-8''a%20b+%C3%BC%2541.bin";
    assert_eq!(get(&agent, &scratch.at("new/dir/a b+ü%41.bin"), &[]).header("content-disposition"), disposition);
}

#[test]
fn serves_ranges_heads_and_what_a_client_has_already() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let path = scratch.file("digits", "0123456789", 0o644);
    for (range, status, body, content_range) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=8-100", 206, "89", "bytes 8-9/10"),
        ("bytes=10-", 416, "", "bytes */10"),
        ("bytes=1-2,4-5", 200, "0123456789", ""),
    ] {
        let answer = get(&agent, &path, &[("range", range)]);
        let text = String::from_utf8(answer.body.clone()).unwrap();
        assert_eq!((answer.status, text.as_str(), answer.header("content-range")), (status, body, content_range));
    }
    let mut exchange = Exchange::open(agent.address);
    for range in ["", "bytes=2-4"] {
        exchange.send("HEAD", &at(&path, ""), &[("range", range)], b"");
        let head = exchange.full_head();
        let want = if range.is_empty() { (200, "10") } else { (206, "3") };
        assert_eq!((head.status, head.header("content-length")), want);
    }
    // The next answer on that connection shows that no body came.
    exchange.send("GET", &at(&path, ""), &[], b"");
    let whole = exchange.answer();
    assert_eq!(whole.body, b"0123456789");
    let etag = whole.header("etag");
    assert_eq!(get(&agent, &path, &[("if-none-match", etag)]).status, 304);
    assert_eq!(get(&agent, &path, &[("range", "bytes=1-1"), ("if-range", etag)]).status, 206);
    fs::write(&path, "abcdefghij").unwrap();
    assert_eq!(get(&agent, &path, &[("range", "bytes=1-1"), ("if-range", etag)]).body, b"abcdefghij");
    assert_eq!(get(&agent, &path, &[("if-none-match", etag)]).status, 200);
}

#[test]
fn takes_forms_as_e2bs_clients_send_them() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let form = [("content-type", "multipart/form-data; boundary=xX")];
    let part = |name: &str, file: &str, data: &str| {
        format!(
            "--xX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\nContent-Type: text/plain\r\n\r\n{data}\r\n"
        )
    };
    let one = part("file", "ignored", "one\r\n--x") + "--xX--\r\n";
    let path = scratch.at("one.txt");
    let answer = agent.http("POST", &at(&path, ""), &form, one.as_bytes());
    assert_eq!((answer.status, answer.json()), (200, json!([{ "name": "one.txt", "path": path, "type": "file" }])));
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\r\n--x");
    let (a, b) = (scratch.at("sub/a"), scratch.at("b"));
    let many = part("file", &a, "A") + &part("other", "x", "skipped") + &part("file", &b, "") + "--xX--\r\n";
    let answer = agent.http("POST", "/files?username=root", &form, many.as_bytes());
    assert_eq!(
        answer.json().as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect::<Vec<_>>(),
        [&a, &b]
    );
    assert_eq!((fs::read_to_string(a).unwrap().as_str(), fs::read_to_string(&b).unwrap().as_str()), ("A", ""));
    let twice = part("file", &b, "1") + &part("file", &b, "2") + "--xX--\r\n";
    assert_eq!(told(&agent.http("POST", "/files", &form, twice.as_bytes())), refused(400, "BAD_INPUT"));
    let cut = part("file", &b, "cut off");
    assert_eq!(told(&agent.http("POST", "/files", &form, &cut.as_bytes()[..cut.len() - 9])), refused(400, "BAD_INPUT"));
    assert_eq!(fs::read_to_string(b).unwrap(), "1");
    assert_eq!(names(&scratch), ["b", "one.txt", "sub"]);
}

#[test]
fn a_drain_waits_for_transfers_that_are_under_way_and_no_longer_than_it_may() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let drain = |limit: &str| agent.call("wrenn.agent.v1.AgentService/Drain", &json!({ "limit": limit })).unwrap();
    assert_eq!(drain("59s"), json!({}));
    let busy = threads(agent.pid());
    let mut upload = Exchange::open(agent.address);
    let target = at(&scratch.at("file"), "");
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ncontent-length: 8\r\n\r\nhalf"
    );
    upload.stream().write_all(head.as_bytes()).unwrap();
    eventually("the upload has begun", || threads(agent.pid()) > busy);
    assert_eq!(drain("0.05s"), json!({ "transfersLeft": 1 }));
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| drain("30s"));
        assert_eq!(agent.http("GET", &at("/etc/passwd", ""), &[], b"").status, 200, "others are still let in");
        upload.stream().write_all(b" all").unwrap();
        assert_eq!(drained.join().unwrap(), json!({}));
    });
    assert_eq!(upload.answer().status, 200);
    let refusal = agent.call("wrenn.agent.v1.AgentService/Drain", &json!({ "limit": "60s" })).unwrap_err();
    assert_eq!(refusal.words(), ("invalid_argument", "BAD_TIME"));
}

#[test]
fn replaces_a_file_at_once_or_not_at_all() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let path = scratch.file("file", "old", 0o644);
    let open = descriptors(agent.pid());
    let begin = || {
        let mut exchange = Exchange::open(agent.address);
        let target = at(&path, "");
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ncontent-length: 8\r\n\r\nnew "
        );
        exchange.stream().write_all(head.as_bytes()).unwrap();
        exchange
    };
    let busy = threads(agent.pid());
    let leaver = begin();
    eventually("the upload has begun", || threads(agent.pid()) > busy);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    drop(leaver);
    eventually("it is given up", || threads(agent.pid()) == busy && descriptors(agent.pid()) <= open);
    let mut short = begin();
    short.stream().shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    short.stream().read_to_end(&mut answer).unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "half a body is no file");
    assert_eq!((fs::read_to_string(&path).unwrap(), names(&scratch)), ("old".into(), vec!["file".to_owned()]));
    let (before, reader) = (fs::metadata(&path).unwrap().ino(), fs::File::open(&path).unwrap());
    let mut whole = begin();
    whole.stream().write_all(b"file").unwrap();
    assert_eq!(whole.answer().status, 200);
    assert_eq!(fs::read_to_string(&path).unwrap(), "new file");
    assert_ne!(fs::metadata(&path).unwrap().ino(), before);
    assert_eq!(std::io::read_to_string(reader).unwrap(), "old", "who had it open still reads the old one");
    assert_eq!(names(&scratch), ["file"]);
}

#[test]
fn keeps_owner_and_mode_of_what_it_replaces_and_makes_the_rest_the_users() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (root, nobody) = (0, nobody());
    let seen = |name: &str| {
        let metadata = fs::metadata(scratch.at(name)).unwrap();
        (metadata.uid(), metadata.mode() & 0o7777)
    };
    let write = |name: &str, more: &str| {
        let answer = put(&agent, &scratch.at(name), &format!("&username=nobody{more}"), b"x");
        assert_eq!(answer.status, 200, "{name}: {}", answer.json());
    };
    write("made/by/me", "");
    assert_eq!(
        (seen("made"), seen("made/by"), seen("made/by/me")),
        ((nobody, 0o755), (nobody, 0o755), (nobody, 0o644))
    );
    write("script", "&mode=750");
    assert_eq!(seen("script"), (nobody, 0o750));
    write("script", "");
    assert_eq!(seen("script"), (nobody, 0o750));
    write("script", "&mode=600");
    assert_eq!(seen("script"), (nobody, 0o600));
    scratch.file("shared", "roots", 0o666);
    write("shared", "");
    assert_eq!(seen("shared"), (root, 0o666), "a file that all may write stays its owner's");
    scratch.file("program", "roots", 0o4777);
    write("program", "");
    assert_eq!(seen("program"), (root, 0o777), "but whoever writes a program takes its privileges from it");
    assert_eq!(put(&agent, &scratch.at("made/by/me"), "", b"y").status, 200);
    assert_eq!(seen("made/by/me"), (nobody, 0o644), "root writes a user's file and leaves it the user's");
}

#[test]
fn follows_links_and_dots_with_the_users_rights_only() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(scratch.at("secret")).unwrap();
    scratch.file("secret/file", "hidden", 0o644);
    fs::set_permissions(scratch.at("secret"), fs::Permissions::from_mode(0o700)).unwrap();
    scratch.file("read-only", "kept", 0o444);
    for (link, target) in [("link", "secret/file"), ("to-dir", "secret"), ("loop", "loop"), ("new", "target")] {
        symlink(target, scratch.at(link)).unwrap();
    }
    let as_nobody = "&username=nobody";
    for path in ["secret/file", "link", "to-dir/file", "x/../secret/file", "to-dir/new"] {
        let path = scratch.at(path);
        let (read, written) = (agent.http("GET", &at(&path, as_nobody), &[], b""), put(&agent, &path, as_nobody, b"x"));
        for answer in [read, written] {
            let told = told(&answer);
            assert!(
                told == refused(403, "PATH_NOT_PERMITTED") || told == refused(404, "PATH_NOT_FOUND"),
                "{path}: {told:?}"
            );
        }
    }
    assert_eq!(told(&put(&agent, &scratch.at("read-only"), as_nobody, b"x")), refused(403, "PATH_NOT_PERMITTED"));
    assert_eq!(told(&put(&agent, &scratch.at("loop"), as_nobody, b"x")), refused(400, "BAD_PATH"));
    assert_eq!(put(&agent, &scratch.at("new"), as_nobody, b"x").status, 200);
    assert_eq!(fs::read_to_string(scratch.at("target")).unwrap(), "x", "a link stays, its target is made");
    assert!(fs::symlink_metadata(scratch.at("new")).unwrap().is_symlink());
    assert_eq!(get(&agent, &scratch.at("link"), &[]).body, b"hidden", "root may");
    for path in ["/proc/self/fd/1", "/proc/self/exe", "/proc/self/cwd/etc/passwd"] {
        assert_eq!(get(&agent, path, &[]).status, 400, "{path} is the agent's, not the user's");
    }
    assert!(!get(&agent, "/proc/meminfo", &[]).body.is_empty(), "files that the kernel makes up are read to their end");
}

#[test]
fn says_what_is_wrong_in_json() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let file = scratch.file("file", "x", 0o644);
    let fifo = scratch.at("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let dir = scratch.path().to_str().unwrap();
    let long = "x".repeat(300);
    for (method, target, status, reason) in [
        ("GET", at(&scratch.at("none"), ""), 404, "PATH_NOT_FOUND"),
        ("GET", at(&format!("{file}/below"), ""), 404, "PATH_NOT_FOUND"),
        ("GET", at(dir, ""), 400, "IS_A_DIRECTORY"),
        ("GET", at(&fifo, ""), 400, "BAD_PATH"),
        ("GET", at("/dev/zero", ""), 400, "BAD_PATH"),
        ("GET", at("/a%00b", "").replace("%2500", "%00"), 400, "BAD_PATH"),
        ("GET", "/files?path=%ff".into(), 400, "BAD_PATH"),
        ("GET", at(&scratch.at(&long), ""), 400, "BAD_PATH"),
        ("GET", at(&file, "&username=no-such-user"), 401, "UNKNOWN_USER"),
        ("POST", at(dir, ""), 400, "IS_A_DIRECTORY"),
        ("POST", at("/", ""), 400, "IS_A_DIRECTORY"),
        ("POST", at(&fifo, ""), 400, "BAD_PATH"),
        ("POST", at("/dev/null", ""), 400, "BAD_PATH"),
        ("POST", at(&format!("{file}/below"), ""), 400, "NOT_A_DIRECTORY"),
        ("POST", at("", ""), 400, "BAD_PATH"),
        ("POST", "/files".into(), 400, "BAD_PATH"),
        ("POST", at(&file, "&mode=9"), 400, "BAD_MODE"),
        ("POST", at("/proc/none", ""), 404, "PATH_NOT_FOUND"),
        ("POST", at(&file, "&username=no-such-user"), 401, "UNKNOWN_USER"),
    ] {
        let answer = agent.http(method, &target, &[RAW], if method == "POST" { b"data" } else { b"" });
        assert_eq!(told(&answer), refused(status, reason), "{method} {target}");
        assert_eq!(answer.json()["code"], status);
        assert!(!answer.json()["message"].as_str().unwrap().is_empty());
    }
    let zipped = [RAW, ("content-encoding", "gzip")];
    assert_eq!(told(&agent.http("POST", &at(&file, ""), &zipped, b"x")), refused(400, "BAD_INPUT"));
    assert_eq!(agent.http("DELETE", &at(&file, ""), &[], b"").status, 405);
    assert_eq!(
        (fs::read_to_string(&file).unwrap(), names(&scratch)),
        ("x".into(), vec!["fifo".to_owned(), "file".to_owned()])
    );
}

/// As E2B's clients do, by a program that is not ours.
fn signed(path: &str, operation: &str, user: &str, expires: Option<u64>) -> String {
    let text = format!("{path}:{operation}:{user}:{TOKEN}{}", expires.map(|e| format!(":{e}")).unwrap_or_default());
    let script = "printf %s \"$0\" | openssl dgst -sha256 -binary | base64 | tr -d =";
    let signature = Command::new("sh").args(["-c", script, &text]).output().unwrap().stdout;
    let signature = String::from_utf8(signature).unwrap().trim().replace('+', "%2B").replace('/', "%2F");
    let expiration = expires.map(|e| format!("&signature_expiration={e}")).unwrap_or_default();
    let user = if user.is_empty() { String::new() } else { format!("&username={user}") };
    at(path, &format!("{user}&signature=v1_{signature}{expiration}"))
}

#[test]
fn opens_to_whoever_has_the_token_or_a_signed_url_once_there_is_a_token() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let (path, other) = (scratch.file("file", "x", 0o644), scratch.file("other", "y", 0o644));
    let init = json!({ "sandboxId": format!("cl-{}", "7".repeat(25)), "templateId": "debian", "accessToken": TOKEN });
    agent.call("wrenn.agent.v1.AgentService/Init", &init).unwrap();
    let fetch = |target: &str, headers: &[(&str, &str)]| agent.http("GET", target, headers, b"").status;
    let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 60;
    assert_eq!(fetch(&at(&path, ""), &[("x-access-token", TOKEN)]), 200);
    assert_eq!(fetch(&signed(&path, "read", "", None), &[]), 200);
    assert_eq!(fetch(&signed(&path, "read", "nobody", Some(soon)), &[]), 200);
    assert_eq!(agent.http("POST", &signed(&path, "write", "", Some(soon)), &[RAW], b"z").status, 200);
    let good = signed(&path, "read", "nobody", Some(soon));
    for (bad, headers) in [
        (at(&path, ""), [].as_slice()),
        (at(&path, ""), &[("x-access-token", "wrong")]),
        (good.clone(), &[("x-access-token", "wrong")]),
        (signed(&path, "read", "", Some(soon - 3600)), &[]),
        (signed(&path, "write", "", None), &[]),
        (good.replace(&path, &other), &[]),
        (good.replace("nobody", "root"), &[]),
        (good.replace("username=nobody", "username=root&username=nobody"), &[]),
    ] {
        assert_eq!(told(&agent.http("GET", &bad, headers, b"")), refused(401, "UNAUTHENTICATED"), "{bad}");
    }
    let written = agent.http("POST", &signed(&path, "read", "", None), &[RAW], &[b'n'; 300_000]);
    assert_eq!(told(&written), refused(401, "UNAUTHENTICATED"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "z");
    // Whom a header names is not signed.
    let root = crate::support::basic("root");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fetch(&good, &[("authorization", &root)]), 403);
    assert!(agent.listed().is_empty(), "the rpcs stay as they are");
    agent
        .call("wrenn.agent.v1.AgentService/Init", &json!({ "sandboxId": init["sandboxId"], "templateId": "d" }))
        .unwrap();
    assert_eq!(fetch(&at(&path, ""), &[]), 200, "an Init without a token takes it back");
    for bad in ["short", &"x".repeat(129), &format!("{TOKEN} ")] {
        let request = json!({ "sandboxId": init["sandboxId"], "templateId": "d", "accessToken": bad });
        let refusal = agent.call("wrenn.agent.v1.AgentService/Init", &request).unwrap_err();
        assert_eq!(refusal.words(), ("invalid_argument", "BAD_ACCESS_TOKEN"));
    }
}

#[test]
fn tells_a_full_disk_and_leaves_the_old_file_and_no_other() {
    let scratch = Scratch::new();
    let _disk = small_disk(scratch.path(), 4 << 20);
    let agent = Agent::start();
    let path = scratch.file("file", "old", 0o644);
    let answer = put(&agent, &path, "&username=nobody", &vec![1; 20 << 20]);
    assert_eq!(told(&answer), refused(403, "PATH_NOT_PERMITTED"));
    let answer = put(&agent, &path, "", &vec![1; 20 << 20]);
    assert_eq!(told(&answer), refused(507, "NO_SPACE_LEFT"));
    assert_eq!((fs::read_to_string(&path).unwrap(), names(&scratch)), ("old".into(), vec!["file".to_owned()]));
    assert_eq!(put(&agent, &path, "", &vec![1; 3 << 20]).status, 200, "what was taken has been given back");
}

#[test]
fn passes_on_files_larger_than_its_memory() {
    const BYTES: u64 = 512 << 20;
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let path = scratch.at("large");
    let before = resident(agent.pid());
    let peak = || {
        let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let mut exchange = Exchange::open(agent.address);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ncontent-length: {BYTES}\r\n\r\n",
        at(&path, "")
    );
    exchange.stream().write_all(head.as_bytes()).unwrap();
    let block = vec![5; 1 << 20];
    for _ in 0..BYTES >> 20 {
        exchange.stream().write_all(&block).unwrap();
    }
    assert_eq!(exchange.answer().status, 200);
    assert_eq!(fs::metadata(&path).unwrap().len(), BYTES);
    exchange.send("GET", &at(&path, ""), &[], b"");
    assert_eq!(exchange.full_head().header("content-length"), BYTES.to_string());
    assert_eq!(exchange.skim(BYTES), BYTES);
    assert!(peak() < before + 8192, "{} KiB grew to {} KiB", before, peak());
}

#[test]
fn moves_bytes_without_asking_the_kernel_for_memory_again_and_again() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let (path, content) = (scratch.at("moved"), vec![7; 32 << 20]);
    let pages_filled = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", agent.pid())).unwrap();
        stat.rsplit(") ").next().unwrap().split(' ').nth(7).unwrap().parse::<u64>().unwrap()
    };
    let both_ways = || {
        let before = pages_filled();
        assert_eq!(put(&agent, &path, "", &content).status, 200);
        assert_eq!(get(&agent, &path, &[]).body.len(), content.len());
        pages_filled() - before
    };
    both_ways();
    assert!(both_ways() < 1000, "of 16,384 that the bytes would fill");
}

#[test]
fn a_file_that_becomes_shorter_is_not_passed_off_as_whole() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let path = scratch.at("shrinking");
    fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let mut exchange = Exchange::open(agent.address);
    exchange.send("GET", &at(&path, ""), &[], b"");
    assert_eq!(exchange.full_head().status, 200);
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert!(exchange.skim(1 << 30) < 1 << 30);
}

#[test]
fn bounds_its_transfers_and_frees_those_whose_client_leaves() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let path = scratch.at("sparse");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let before = (descriptors(agent.pid()), threads(agent.pid()));
    let slow: Vec<Exchange> = (0..64)
        .map(|_| {
            let mut exchange = Exchange::open(agent.address);
            exchange.send("GET", &at(&path, ""), &[], b"");
            assert_eq!(exchange.full_head().header("content-length"), (1u64 << 40).to_string());
            exchange
        })
        .collect();
    assert_eq!(told(&get(&agent, &path, &[])), refused(503, "TOO_MANY_TRANSFERS"));
    assert!(resident(agent.pid()) < 100_000, "{} KiB for 64 clients that do not read", resident(agent.pid()));
    assert_eq!(agent.sh("echo alive").run().text(), "alive\n");
    drop(slow);
    eventually("all is freed", || {
        let now = (descriptors(agent.pid()), threads(agent.pid()));
        now.0 <= before.0 && now.1 <= before.1
    });
    assert_eq!(put(&agent, &path, "", b"x").status, 200);
}
