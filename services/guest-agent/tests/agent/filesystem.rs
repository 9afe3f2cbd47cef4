//! Files and directories, touched with the caller's rights.

use crate::support::{Agent, Refusal, Scratch, thorough};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

fn fs_call(agent: &Agent, user: &str, method: &str, request: Value) -> Result<Value, Refusal> {
    agent.call_as(user, &format!("filesystem.Filesystem/{method}"), &request)
}

fn words(result: Result<Value, Refusal>) -> (String, String) {
    let refusal = result.expect_err("the call is refused");
    (refusal.code, refusal.reason)
}

fn said(code: &str, reason: &str) -> (String, String) {
    (code.to_owned(), reason.to_owned())
}

#[test]
fn describes_a_file_as_ls_does() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let path = scratch.file("a.txt", "hello", 0o4640);
    let entry = fs_call(&agent, "", "Stat", json!({ "path": path })).unwrap()["entry"].clone();
    for (field, want) in [
        ("name", json!("a.txt")),
        ("type", json!("FILE_TYPE_FILE")),
        ("path", json!(path)),
        ("size", json!("5")),
        ("mode", json!(0o4640)),
        ("permissions", json!("-rwSr-----")),
        ("owner", json!("root")),
        ("group", json!("root")),
    ] {
        assert_eq!(entry[field], want, "{field}");
    }
    assert!(entry["modifiedTime"].as_str().unwrap().starts_with("20"), "{entry}");
    assert!(entry.get("symlinkTarget").is_none());
}

#[test]
fn follows_links_that_lead_somewhere_and_describes_those_that_do_not() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    fs::create_dir(scratch.at("dir")).unwrap();
    symlink("dir", scratch.at("good")).unwrap();
    symlink("nowhere", scratch.at("dangling")).unwrap();
    let stat = |name: &str| fs_call(&agent, "", "Stat", json!({ "path": scratch.at(name) })).unwrap()["entry"].clone();
    let (good, dangling) = (stat("good"), stat("dangling"));
    assert_eq!((&good["type"], &good["symlinkTarget"]), (&json!("FILE_TYPE_DIRECTORY"), &json!("dir")));
    assert_eq!((&dangling["type"], &dangling["symlinkTarget"]), (&json!("FILE_TYPE_SYMLINK"), &json!("nowhere")));
}

#[test]
fn makes_a_directory_and_its_parents_for_the_user() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = scratch.at("a/b/c");
    let entry = fs_call(&agent, "nobody", "MakeDir", json!({ "path": path })).unwrap()["entry"].clone();
    assert_eq!((&entry["owner"], &entry["permissions"]), (&json!("nobody"), &json!("drwxr-xr-x")));
    assert_eq!(fs::metadata(scratch.at("a")).unwrap().uid(), fs::metadata(&path).unwrap().uid());
    assert_eq!(words(fs_call(&agent, "", "MakeDir", json!({ "path": path }))), said("already_exists", "PATH_EXISTS"));
    let file = scratch.file("file", "", 0o644);
    for path in [file.clone(), format!("{file}/below")] {
        let got = words(fs_call(&agent, "", "MakeDir", json!({ "path": path })));
        assert_eq!(got, said("invalid_argument", "NOT_A_DIRECTORY"));
    }
}

#[test]
fn lists_sorted_to_the_depth_asked_for_without_entering_links() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    fs::create_dir_all(scratch.at("b/deep/deeper")).unwrap();
    scratch.file("a", "", 0o644);
    scratch.file("b/x", "", 0o644);
    symlink(".", scratch.at("loop")).unwrap();
    let list = |depth: u32| -> Vec<String> {
        let answer = fs_call(&agent, "", "ListDir", json!({ "path": scratch.path(), "depth": depth })).unwrap();
        let prefix = scratch.at("");
        let path = |e: &Value| e["path"].as_str().unwrap().strip_prefix(&prefix).unwrap().to_owned();
        answer["entries"].as_array().unwrap().iter().map(path).collect()
    };
    assert_eq!(list(0), ["a", "b", "loop"]);
    assert_eq!(list(1), list(0));
    assert_eq!(list(2), ["a", "b", "b/deep", "b/x", "loop"]);
    assert_eq!(list(64), ["a", "b", "b/deep", "b/deep/deeper", "b/x", "loop"]);
    let refused = |request| words(fs_call(&agent, "", "ListDir", request));
    assert_eq!(refused(json!({ "path": scratch.path(), "depth": 65 })), said("invalid_argument", "BAD_DEPTH"));
    assert_eq!(refused(json!({ "path": scratch.at("a") })), said("invalid_argument", "NOT_A_DIRECTORY"));
    assert_eq!(refused(json!({ "path": scratch.at("none") })), said("not_found", "PATH_NOT_FOUND"));
}

#[test]
fn moves_over_a_file_and_makes_the_parents_of_the_destination() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let (source, old) = (scratch.file("source", "new", 0o644), scratch.file("old", "old", 0o644));
    let entry = fs_call(&agent, "", "Move", json!({ "source": source, "destination": old })).unwrap()["entry"].clone();
    assert_eq!((entry["path"].as_str(), fs::read_to_string(&old).unwrap().as_str()), (Some(old.as_str()), "new"));
    let far = scratch.at("x/y/z");
    fs_call(&agent, "", "Move", json!({ "source": old, "destination": far })).unwrap();
    assert_eq!(fs::read_to_string(far).unwrap(), "new");
    let refused = |source: String, destination: String| {
        words(fs_call(&agent, "", "Move", json!({ "source": source, "destination": destination })))
    };
    assert_eq!(refused(source, scratch.at("q")), said("not_found", "PATH_NOT_FOUND"));
    assert_eq!(refused(scratch.at("x"), scratch.at("x/y/in")), said("failed_precondition", "MOVE_REFUSED"));
}

#[test]
fn removes_a_tree_but_nothing_behind_a_link() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    fs::create_dir_all(scratch.at("kept")).unwrap();
    fs::create_dir_all(scratch.at("gone/below")).unwrap();
    let kept = scratch.file("kept/file", "x", 0o644);
    symlink("../kept", scratch.at("gone/link")).unwrap();
    let remove = |path: String| fs_call(&agent, "", "Remove", json!({ "path": path }));
    remove(scratch.at("gone")).unwrap();
    assert!(!fs::exists(scratch.at("gone")).unwrap() && fs::exists(&kept).unwrap());
    remove(scratch.at("gone")).expect("an absent entry is no error");
    remove(format!("{kept}/below")).expect("nor is one below a file");
    for path in ["/", "//", "/tmp/..", ""] {
        assert_eq!(words(remove(path.to_owned())), said("invalid_argument", "BAD_PATH"), "{path}");
    }
}

#[test]
fn does_only_what_the_user_may() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let secret = scratch.at("secret");
    fs::create_dir(&secret).unwrap();
    scratch.file("secret/file", "x", 0o644);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    let inside = scratch.at("secret/file");
    let denied = said("permission_denied", "PATH_NOT_PERMITTED");
    for (method, request) in [
        ("Stat", json!({ "path": inside })),
        ("ListDir", json!({ "path": secret })),
        ("MakeDir", json!({ "path": scratch.at("secret/new") })),
        ("Remove", json!({ "path": inside })),
        ("Move", json!({ "source": inside, "destination": "/tmp/stolen" })),
        ("Move", json!({ "source": scratch.at("secret"), "destination": scratch.at("renamed") })),
        ("CreateWatcher", json!({ "path": secret })),
    ] {
        assert_eq!(words(fs_call(&agent, "nobody", method, request)), denied, "{method}");
    }
    assert!(fs_call(&agent, "root", "Stat", json!({ "path": inside })).is_ok());
    let answer = fs_call(&agent, "nobody", "ListDir", json!({ "path": scratch.path(), "depth": 2 })).unwrap();
    assert_eq!(answer["entries"].as_array().unwrap().len(), 1, "a forbidden directory is listed, not its contents");
}

#[test]
fn refuses_paths_that_no_file_can_have() {
    let agent = Agent::start();
    for path in ["a\0b".to_owned(), "x".repeat(4096), "~bob/x".to_owned()] {
        let got = words(fs_call(&agent, "", "Stat", json!({ "path": path })));
        assert_eq!(got, said("invalid_argument", "BAD_PATH"));
    }
    let long_name = format!("/tmp/{}", "x".repeat(300));
    assert_eq!(words(fs_call(&agent, "", "Stat", json!({ "path": long_name }))), said("invalid_argument", "BAD_PATH"));
    assert_eq!(
        words(fs_call(&agent, "", "Stat", json!({ "path": "/etc/passwd/x" }))),
        said("not_found", "PATH_NOT_FOUND")
    );
    assert_eq!(fs_call(&agent, "", "Stat", json!({ "path": "" })).unwrap()["entry"]["path"], "/root");
}

/// Ends the thread that looks at it, however the test ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn walks_never_leave_through_a_link_that_is_swapped_in() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    fs::create_dir_all(scratch.at("outside/deep")).unwrap();
    let secret = scratch.file("outside/deep/secret", "x", 0o644);
    let (tree, a, b) = (scratch.at("tree"), scratch.at("tree/a"), scratch.at("tree/b"));
    let plant = || {
        fs::create_dir_all(scratch.at("tree/a/deep")).unwrap();
        symlink("../outside", &b).unwrap();
    };
    plant();
    let (is_over, still) = (AtomicBool::new(false), Mutex::new(()));
    std::thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let _moving = still.lock().unwrap();
                // Fails while one of them is removed.
                let _ = renameat2(AT_FDCWD, a.as_str(), AT_FDCWD, b.as_str(), RenameFlags::RENAME_EXCHANGE);
            }
        });
        for _ in 0..thorough(300) {
            let answer = fs_call(&agent, "", "ListDir", json!({ "path": tree, "depth": 64 })).unwrap().to_string();
            assert!(!answer.contains("secret"), "{answer}");
        }
        for _ in 0..thorough(100) {
            // It may find that what it removes is not what it was, or is not empty.
            let _ = fs_call(&agent, "", "Remove", json!({ "path": tree }));
            assert!(fs::exists(&secret).unwrap());
            let _still = still.lock().unwrap();
            let _ = fs::remove_dir_all(&tree);
            plant();
        }
    });
}
