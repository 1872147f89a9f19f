//! Clients from elsewhere that connect and send nothing: a check of health on the same machine is answered.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::watched::Watched;
use crate::support::*;

/// More than the places of clients and of those that wait.
const CLIENTS: usize = 1_500;

/// A connection from another address than the one it goes to, as from another machine.
async fn from_elsewhere(address: std::net::SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let connected = tokio::time::timeout(Duration::from_secs(5), socket.connect(address));
    connected.await.ok()?.ok()
}

#[test]
fn slow_clients_from_elsewhere_do_not_keep_a_health_check_waiting() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = Watched::start(world.relay(0)).await;
        relay.becomes_ready().await;
        // A usual limit, below that of this machine perhaps.
        let limit = tokio::process::Command::new("prlimit")
            .args([
                "--nofile=1024:1024",
                "--pid",
                &relay.process.pid().to_string(),
            ])
            .status();
        assert!(limit.await.unwrap().success());
        let address: std::net::SocketAddr = relay.address().parse().unwrap();
        let slow = async {
            loop {
                let clients = (0..CLIENTS).map(|_| from_elsewhere(address));
                let held = futures::future::join_all(clients).await;
                let mut held: Vec<TcpStream> = held.into_iter().flatten().collect();
                assert!(held.len() >= 64);
                // Until the service has closed the first of them.
                let mut answer = [0; 64];
                let closed = tokio::time::timeout(PATIENCE, held[0].read(&mut answer)).await;
                closed.expect("the service closes a silent client").ok();
            }
        };
        let url = format!("http://{address}/health/live");
        let checks = async {
            // For as long as the first of them are kept, and longer.
            let begun = std::time::Instant::now();
            let mut checked = 0;
            while begun.elapsed() < Duration::from_secs(8) {
                let (status, said) = Program::new(&["health", "--url", &url]).finish().await;
                assert!(status.success(), "check {checked}: {said}");
                checked += 1;
            }
            assert!(checked > 0);
        };
        tokio::select! {
            () = checks => {}
            () = slow => unreachable!("it goes on"),
        }
        assert!(
            !relay
                .process
                .log()
                .contains("no connection can be accepted")
        );
        relay.process.kill().await;
    });
}
