//! Watching directories.

use crate::support::{Agent, Events, Scratch, eventually};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

fn watch(agent: &Agent, request: &Value) -> Events {
    let mut events = agent.stream("filesystem.Filesystem/WatchDir", request, &[]);
    assert!(events.next().unwrap().unwrap().get("start").is_some(), "the first event is start");
    events
}

/// Reads events until that one comes; tells all that came.
fn until(events: &mut Events, name: &str, kind: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    loop {
        let event = events.next().unwrap().unwrap()["filesystem"].clone();
        seen.push(event.clone());
        if (&event["name"], &event["type"]) == (&json!(name), &json!(format!("EVENT_TYPE_{kind}"))) {
            return seen;
        }
    }
}

#[test]
fn tells_what_happens_in_a_directory_from_the_start_event_on() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let mut events = watch(&agent, &json!({ "path": scratch.path() }));
    let file = scratch.file("a", "x", 0o644);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&file, scratch.at("b")).unwrap();
    fs::remove_file(scratch.at("b")).unwrap();
    for (name, kind) in
        [("a", "CREATE"), ("a", "WRITE"), ("a", "CHMOD"), ("a", "RENAME"), ("b", "CREATE"), ("b", "REMOVE")]
    {
        until(&mut events, name, kind);
    }
}

#[test]
fn without_recursion_tells_nothing_from_below() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    fs::create_dir(scratch.at("dir")).unwrap();
    let mut events = watch(&agent, &json!({ "path": scratch.path() }));
    scratch.file("dir/inner", "", 0o644);
    scratch.file("outer", "", 0o644);
    assert!(until(&mut events, "outer", "CREATE").iter().all(|e| e["name"] == "outer"));
}

#[test]
fn with_recursion_follows_directories_that_are_made_moved_and_removed_later() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    fs::create_dir(scratch.at("old")).unwrap();
    let mut events = watch(&agent, &json!({ "path": scratch.path(), "recursive": true }));
    scratch.file("old/a", "", 0o644);
    until(&mut events, "old/a", "CREATE");
    fs::create_dir_all(scratch.at("new/x/y/z")).unwrap();
    scratch.file("new/x/y/z/file", "", 0o644);
    let seen = until(&mut events, "new/x/y/z/file", "CREATE");
    for dir in ["new", "new/x", "new/x/y", "new/x/y/z"] {
        assert_eq!(seen.iter().filter(|e| e["name"] == dir).count(), 1, "{dir} is created once");
    }
    fs::rename(scratch.at("new/x"), scratch.at("moved")).unwrap();
    until(&mut events, "moved/y/z/file", "CREATE");
    scratch.file("moved/y/later", "", 0o644);
    until(&mut events, "moved/y/later", "CREATE");
    fs::remove_dir_all(scratch.at("moved")).unwrap();
    until(&mut events, "moved", "REMOVE");
}

#[test]
fn tells_every_file_of_a_busy_tree_exactly_once() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let mut events = watch(&agent, &json!({ "path": scratch.path(), "recursive": true }));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..300 {
                fs::create_dir_all(scratch.at(&format!("d{n}/e"))).unwrap();
                scratch.file(&format!("d{n}/e/f"), "", 0o644);
            }
            scratch.file("last", "", 0o644);
        });
        let mut created: Vec<String> = until(&mut events, "last", "CREATE")
            .iter()
            .filter(|e| e["type"] == "EVENT_TYPE_CREATE" && e["name"].as_str().unwrap().ends_with("/e/f"))
            .map(|e| e["name"].as_str().unwrap().to_owned())
            .collect();
        created.sort();
        let total = created.len();
        created.dedup();
        assert_eq!((total, created.len()), (300, 300));
    });
}

#[test]
fn describes_the_entry_when_it_is_asked_to() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let mut events = watch(&agent, &json!({ "path": scratch.path(), "includeEntry": true }));
    fs::create_dir(scratch.at("dir")).unwrap();
    let seen = until(&mut events, "dir", "CREATE");
    assert_eq!(seen[0]["entry"]["type"], "FILE_TYPE_DIRECTORY");
    assert_eq!(seen[0]["entry"]["path"], json!(scratch.at("dir")));
}

#[test]
fn keeps_events_for_who_fetches_them() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let call = |method: &str, request: Value| agent.call(&format!("filesystem.Filesystem/{method}"), &request);
    let watcher = call("CreateWatcher", json!({ "path": scratch.path() })).unwrap();
    scratch.file("a", "", 0o644);
    scratch.file("b", "", 0o644);
    let mut names = Vec::new();
    eventually("both creations are fetched", || {
        let answer = call("GetWatcherEvents", watcher.clone()).unwrap();
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        names.extend(events.iter().filter(|e| e["type"] == "EVENT_TYPE_CREATE").map(|e| e["name"].clone()));
        names.len() >= 2
    });
    assert_eq!(names, ["a", "b"]);
    call("RemoveWatcher", watcher.clone()).unwrap();
    for method in ["GetWatcherEvents", "RemoveWatcher"] {
        assert_eq!(call(method, watcher.clone()).unwrap_err().words(), ("not_found", "WATCHER_NOT_FOUND"));
    }
}

#[test]
fn tells_a_fetcher_that_came_too_late_of_its_loss_and_then_goes_on() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let call = |method: &str, request: Value| agent.call(&format!("filesystem.Filesystem/{method}"), &request);
    let watcher = call("CreateWatcher", json!({ "path": scratch.path() })).unwrap();
    let file = scratch.at("f");
    for _ in 0..6000 {
        fs::write(&file, "x").unwrap();
        fs::remove_file(&file).unwrap();
    }
    let mut losses = 0;
    // An agent that is still reading what happened may lose more of it after it told of a loss.
    eventually("the loss is told", || match call("GetWatcherEvents", watcher.clone()) {
        Ok(_) => losses > 0,
        Err(refusal) => {
            assert_eq!(refusal.words(), ("resource_exhausted", "WATCH_OVERFLOW"));
            losses += 1;
            false
        }
    });
    let last = scratch.at("last");
    fs::create_dir(&last).unwrap();
    eventually("the next event comes", || {
        let events = call("GetWatcherEvents", watcher.clone()).unwrap();
        events.to_string().contains("\"last\"")
    });
}

#[test]
fn refuses_what_cannot_be_watched() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let file = scratch.file("file", "", 0o644);
    for (path, code, reason) in
        [(scratch.at("none"), "not_found", "PATH_NOT_FOUND"), (file, "invalid_argument", "NOT_A_DIRECTORY")]
    {
        let refusal = agent.stream("filesystem.Filesystem/WatchDir", &json!({ "path": path }), &[]).refusal();
        assert_eq!(refusal.words(), (code, reason));
        let refusal = agent.call("filesystem.Filesystem/CreateWatcher", &json!({ "path": path })).unwrap_err();
        assert_eq!(refusal.words(), (code, reason));
    }
}

#[test]
fn ends_the_watch_of_a_client_that_leaves() {
    let (agent, scratch) = (Agent::start(), Scratch::new());
    let threads = || fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().count();
    let before = threads();
    let events = watch(&agent, &json!({ "path": scratch.path(), "recursive": true }));
    assert_eq!(threads(), before + 1);
    drop(events);
    eventually("its thread is gone", || threads() == before);
}
