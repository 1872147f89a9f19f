//! Named points at which a test ends the process, as a crash would: SIGKILL, nothing flushed,
//! nothing unwound. Release builds have none.
//!
//! `ARTSTORE_CRASH_AT=relay.published:3` kills the process when it reaches the point
//! `relay.published` for the third time; `…:3:stop` freezes it with SIGSTOP instead, and reports that on
//! standard error once it is frozen.

#[cfg(debug_assertions)]
static PLAN: std::sync::OnceLock<Option<Plan>> = std::sync::OnceLock::new();

#[cfg(debug_assertions)]
const KILL: &str = "kill -KILL $1";

/// A signal to a process goes to any of its threads, and this one would run on until that one gets a turn:
/// so it waits until all stand still. Whoever lets them continue waits for the line, or it would wait for
/// ever.
#[cfg(debug_assertions)]
const STOP: &str = "kill -STOP $1; \
    until grep -q '^State:.T' /proc/$1/status; do sleep 0.01; done; \
    echo \"artstore: frozen at $2\" >&2";

#[cfg(debug_assertions)]
struct Plan {
    point: String,
    left: std::sync::atomic::AtomicI64,
    signal: &'static str,
}

/// Passes, unless a test asked for an end here.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    let Some(plan) = PLAN.get_or_init(Plan::read) else {
        return;
    };
    if plan.point != name {
        return;
    }
    if plan.left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
        let pid = std::process::id().to_string();
        // A signal that can't be sent is not reported; the test then sees no crash.
        let sent = std::process::Command::new("sh")
            .args(["-c", plan.signal, "sh", &pid, name])
            .status();
        assert!(sent.is_ok(), "no `sh` to crash with at {name}");
        if plan.signal == KILL {
            loop {
                std::thread::park();
            }
        }
    }
}

/// Passes: release builds have no crash points.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &str) {}

#[cfg(debug_assertions)]
impl Plan {
    fn read() -> Option<Self> {
        let text = std::env::var("ARTSTORE_CRASH_AT").ok()?;
        let mut parts = text.split(':');
        let point = parts.next()?.to_owned();
        let left: i64 = parts.next().unwrap_or("1").parse().ok()?;
        let signal = match parts.next() {
            Some("stop") => STOP,
            _ => KILL,
        };
        Some(Self {
            point,
            left: left.into(),
            signal,
        })
    }
}
