//! Work done as another user. Credentials are the thread's here, so each piece of work has a thread of its
//! own that ends with it: none can go back to a pool with somebody's credentials.

use crate::fault::{Fault, Outcome, Reason};
use crate::users::User;
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};
use tokio::sync::oneshot;

const STACK_BYTES: usize = 256 * 1024;

/// Runs `work` on a new thread that has the user's rights to files.
pub async fn as_user<T: Send + 'static>(user: &User, work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    let (tell, told) = oneshot::channel();
    // Who asked may have left: then nobody needs the outcome.
    spawn_as(user.clone(), move |ready| drop(tell.send(ready.and_then(|()| work()))))?;
    told.await.unwrap_or_else(|_| Err(Fault::new(Reason::Internal, "the work was abandoned")))
}

/// The same for work that goes on; `work` is told whether the credentials are in place.
pub fn spawn_as(user: User, work: impl FnOnce(Outcome<()>) + Send + 'static) -> Outcome<()> {
    let thread = std::thread::Builder::new().name("as-user".into()).stack_size(STACK_BYTES);
    let no_thread = |e| Fault::new(Reason::NoProcessLeft, format!("the sandbox has no thread left: {e}"));
    thread.spawn(move || work(assume(&user))).map(drop).map_err(no_thread)
}

/// Does on a user's thread what only root may, to what is open already.
pub fn as_root<T>(user: &User, work: impl FnOnce() -> T) -> Outcome<T> {
    if geteuid().is_root() {
        take_ids(Uid::from_raw(0), Gid::from_raw(0), "root")?;
    }
    let done = work();
    if geteuid().is_root() {
        take_ids(Uid::from_raw(user.uid), Gid::from_raw(user.gid), &user.name)?;
    }
    Ok(done)
}

/// The file-system ids only: the thread stays root's in all else, so that the user cannot signal or trace it.
fn assume(user: &User) -> Outcome<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if !geteuid().is_root() {
        return Ok(());
    }
    // SAFETY: the raw call reads `len` ids and changes this thread alone (glibc's would change all).
    let groups = unsafe { libc::syscall(libc::SYS_setgroups, user.groups.len(), user.groups.as_ptr()) };
    Errno::result(groups).map_err(|e| Fault::internal("take the user's groups", e))?;
    take_ids(uid, gid, &user.name)
}

fn take_ids(uid: Uid, gid: Gid, name: &str) -> Outcome<()> {
    setfsgid(gid);
    setfsuid(uid);
    // They report no error, but the id that was in force before.
    if setfsgid(gid) != gid || setfsuid(uid) != uid {
        return Err(Fault::new(Reason::Internal, format!("cannot act as user {name}")));
    }
    Ok(())
}
