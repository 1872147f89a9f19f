//! Requests to stop: Ctrl-C and SIGTERM.

use tokio_util::sync::CancellationToken;

/// Is cancelled at the first SIGINT or SIGTERM. A second one ends the process at once: somebody who
/// asks twice does not want to wait.
pub(crate) fn stop_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let asked = stop.clone();
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
        tracing::info!("stopping");
        asked.cancel();
        signalled().await;
        eprintln!("artstore: a second signal: ended at once, with nothing settled");
        std::process::exit(1);
    });
    Ok(stop)
}
