//! Requests to stop: Ctrl-C and SIGTERM.

use tokio::sync::watch;

/// Becomes true at the first SIGINT or SIGTERM. A second one ends the process at once: somebody who
/// asks twice does not want to wait.
pub(crate) fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (asked, stop) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut signalled = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        signalled().await;
        // Nobody listens any more: the process is ending already.
        if asked.send(true).is_ok() {
            tracing::info!("stopping");
        }
        signalled().await;
        eprintln!("artstore: a second signal: ended at once, with nothing settled");
        std::process::exit(1);
    });
    Ok(stop)
}
