//! How tests are run: in turns, so that they do not take the cores from each other, with the time that each took, and
//! with an end: a test that waits for what does not come fails.

use std::future::Future;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Tests with a turn for each core: half of the time such a test waits for a server or a disk.
const TURNS_A_CORE: usize = 2;

/// No test takes a fifth of this where nothing else is slow.
const LONGEST: Duration = Duration::from_secs(900);

/// Runs a test when it has a turn.
pub fn run(test: impl Future<Output = ()>) {
    static TURNS: OnceLock<Semaphore> = OnceLock::new();
    // On the heap: a test thread has a small stack.
    runtime().block_on(Box::pin(async {
        let turns = TURNS.get_or_init(|| Semaphore::new(turns()));
        let _turn = turns.acquire().await.unwrap();
        ending(timed(test)).await;
    }));
}

/// Runs a test that mostly waits: it takes less than a third of a core, and needs no turn.
pub fn run_waiting(test: impl Future<Output = ()>) {
    runtime().block_on(Box::pin(ending(timed(test))));
}

/// Runs a measurement that takes as long as it takes, alone.
pub fn run_measurement(test: impl Future<Output = ()>) {
    runtime().block_on(Box::pin(timed(test)));
}

async fn ending(test: impl Future<Output = ()>) {
    tokio::time::timeout(LONGEST, test)
        .await
        .unwrap_or_else(|_| panic!("it waits for something that has not come in {LONGEST:?}"));
}

fn turns() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) * TURNS_A_CORE
}

/// The runtime that the shared stack lives in, as long as the program.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

/// The file that `TEST_TIMES` names gets a line with the seconds that the test took, also where it fails.
async fn timed(test: impl Future<Output = ()>) {
    struct Clock(Instant);
    impl Drop for Clock {
        fn drop(&mut self) {
            let Some(path) = std::env::var_os("TEST_TIMES") else {
                return;
            };
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path);
            let thread = std::thread::current();
            let line = format!(
                "{:6.1} s  {}\n",
                self.0.elapsed().as_secs_f64(),
                thread.name().unwrap_or_default()
            );
            // One write, so that lines stay whole; without the file only the list is missing.
            drop(file.and_then(|mut file| file.write_all(line.as_bytes())));
        }
    }
    let _clock = Clock(Instant::now());
    test.await;
}
