//! The program `nft`, as a child with a time limit.
//!
//! The JSON goes through a pipe, never a shell. What is asked is built from the types of the `nftables` crate; what
//! comes back is compared as it comes. Its own runner blocks and has no time limit, so it is not used.

use std::process::{Output, Stdio};
use std::time::Duration;

use nftables::schema::Nftables;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::super::{StepError, line};
use super::ruleset::TABLE;

/// It answers within 30 ms; a ruleset that is locked by another program may take longer.
const NFT_LIMIT: Duration = Duration::from_secs(10);

/// Applies commands in one transaction.
pub(super) async fn apply(commands: &Nftables<'_>) -> Result<(), StepError> {
    let text = serde_json::to_vec(commands).map_err(|error| failed(&error.to_string()))?;
    let output = run(&["-j", "-f", "-"], &text).await?;
    if output.status.success() { Ok(()) } else { Err(failed(&String::from_utf8_lossy(&output.stderr))) }
}

/// Lists our table; `None` when there is none.
pub(super) async fn list_table() -> Result<Option<Value>, StepError> {
    list(&["-j", "list", "table", "inet", TABLE]).await
}

/// Lists the chains of all tables, without their rules.
pub(super) async fn list_chains() -> Result<Option<Value>, StepError> {
    list(&["-j", "list", "chains"]).await
}

/// Lists a chain of others with its rules.
pub(super) async fn list_chain(family: &str, table: &str, chain: &str) -> Result<Option<Value>, StepError> {
    list(&["-j", "list", "chain", family, table, chain]).await
}

async fn list(arguments: &[&str]) -> Result<Option<Value>, StepError> {
    let output = run(arguments, b"").await?;
    if !output.status.success() {
        // The one way in which a listing fails on a host that has nftables: there is no such table.
        return Ok(None);
    }
    Ok(serde_json::from_slice(&output.stdout).ok())
}

async fn run(arguments: &[&str], input: &[u8]) -> Result<Output, StepError> {
    let talk = async {
        let mut child = Command::new("nft")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input).await?;
        }
        child.wait_with_output().await
    };
    match tokio::time::timeout(NFT_LIMIT, talk).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(failed(&format!("nft: {error}"))),
        Err(_elapsed) => Err(failed("nft did not end in time")),
    }
}

fn failed(detail: &str) -> StepError {
    StepError::Firewall { detail: line::clean(detail) }
}
