//! Netlink, as far as it is needed without a further program: links, the ruleset's generation.
//!
//! Owns requests and replies as bytes (netlink(7), rtnetlink(7)) on blocking sockets with a time limit. Every
//! message is built from parts of known size and every reply is read with bounds checks: no `unsafe`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// How long the kernel may take to answer; it answers at once.
const ANSWER_LIMIT_SECONDS: i64 = 5;
/// Larger than any reply asked for here.
const REPLY_BYTES_MAX: usize = 16 * 1024;

// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const HEADER_BYTES: usize = 16;
// linux/rtnetlink.h, linux/if_link.h
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const IFINFO_BYTES: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_STATS64: u16 = 23;
const IFLA_ALT_IFNAME: u16 = 53;
const IFNAME_BYTES_MAX: usize = 15;
// linux/netfilter/nfnetlink.h, nf_tables.h
const NFT_MSG_GETGEN: u16 = (10 << 8) | 16;
const NFGENMSG_BYTES: usize = 4;
const NFTA_GEN_ID: u16 = 1;
/// The multicast group of changes to the ruleset, as a bit (`NFNLGRP_NFTABLES` is 7).
const NFTABLES_GROUP: u32 = 1 << (7 - 1);

/// A network interface of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    index: i32,
    /// The kernel's name, at most 15 bytes.
    name: String,
    /// What went through it; `None`: the kernel does not say.
    pub(super) traffic: Option<Traffic>,
}

/// What went through a link since it was made, in bytes, as the host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) received: u64,
    pub(super) transmitted: u64,
}

impl Link {
    /// Returns the directory of its IPv4 settings, such as `route_localnet`.
    pub(super) fn ipv4_settings(&self) -> PathBuf {
        PathBuf::from("/proc/sys/net/ipv4/conf").join(&self.name)
    }
}

/// Returns the link of this name or alternative name (nspawn gives links of long names both); `None` without one.
///
/// # Errors
/// What the kernel answered.
pub(super) fn link(name: &str) -> io::Result<Option<Link>> {
    let attribute = if name.len() <= IFNAME_BYTES_MAX { IFLA_IFNAME } else { IFLA_ALT_IFNAME };
    let mut body = vec![0; IFINFO_BYTES];
    push_attribute(&mut body, attribute, &[name.as_bytes(), &[0]].concat())?;
    let reply = match exchange(SockProtocol::NetlinkRoute, RTM_GETLINK, &body) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => return Ok(None),
        other => other?,
    };
    let index = reply.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    let attributes = reply.get(IFINFO_BYTES..).unwrap_or_default();
    let traffic = attribute_of(attributes, IFLA_STATS64).and_then(traffic);
    let name = attribute_of(attributes, IFLA_IFNAME)
        .and_then(|bytes| String::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes).to_vec()).ok());
    match (index, name) {
        // The name becomes part of a path.
        (Some(index), Some(name)) if !name.contains('/') => Ok(Some(Link { index, name, traffic })),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

/// Reads a `rtnl_link_stats64` (`linux/if_link.h`): packets received and transmitted, then bytes of both.
fn traffic(statistics: &[u8]) -> Option<Traffic> {
    let number = |index: usize| Some(u64::from_ne_bytes(statistics.chunks_exact(8).nth(index)?.try_into().ok()?));
    Some(Traffic { received: number(2)?, transmitted: number(3)? })
}

/// Deletes a link; one that is gone is no error.
///
/// # Errors
/// What the kernel answered.
pub(super) fn delete_link(link: &Link) -> io::Result<()> {
    let mut body = vec![0; IFINFO_BYTES];
    if let Some(index) = body.get_mut(4..8) {
        index.copy_from_slice(&link.index.to_ne_bytes());
    }
    match exchange(SockProtocol::NetlinkRoute, RTM_DELLINK, &body) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(()),
        other => other.map(drop),
    }
}

/// Returns the number of the nftables ruleset: another one after every change, by whomever.
///
/// # Errors
/// What the kernel answered; `ENOTSUP`-like errors where it has no nftables.
pub(super) fn ruleset_generation() -> io::Result<u32> {
    let reply = exchange(SockProtocol::NetlinkNetFilter, NFT_MSG_GETGEN, &[0; NFGENMSG_BYTES])?;
    attribute_of(reply.get(NFGENMSG_BYTES..).unwrap_or_default(), NFTA_GEN_ID)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_be_bytes)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Opens a non-blocking socket that becomes readable whenever the nftables ruleset changes.
///
/// # Errors
/// What the kernel answered.
pub(super) fn ruleset_changes() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, NFTABLES_GROUP))?;
    Ok(socket)
}

/// Sends one request and returns the payload of the one message that answers it; empty for an acknowledgement.
fn exchange(protocol: SockProtocol, kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_LIMIT_SECONDS))?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    let length = u32::try_from(HEADER_BYTES + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // A request that only changes something is answered by nothing but an acknowledgement.
    let acknowledge = if kind == RTM_DELLINK { NLM_F_ACK } else { 0 };
    let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(NLM_F_REQUEST | acknowledge).to_ne_bytes());
    message.extend_from_slice(&1_u32.to_ne_bytes());
    message.extend_from_slice(&0_u32.to_ne_bytes());
    message.extend_from_slice(body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;

    let mut buffer = vec![0; REPLY_BYTES_MAX];
    let read = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    buffer.truncate(read);
    payload(&buffer)
}

/// Returns the payload of the first message, or the error that it carries.
fn payload(buffer: &[u8]) -> io::Result<Vec<u8>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let length = buffer.get(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let kind = buffer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let (Some(length), Some(kind)) = (length, kind) else { return Err(invalid()) };
    let length = usize::try_from(length).map_err(|_| invalid())?;
    let payload = buffer.get(HEADER_BYTES..length).ok_or_else(invalid)?;
    if kind != NLMSG_ERROR {
        return Ok(payload.to_vec());
    }
    let code = payload.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match code.ok_or_else(invalid)? {
        0 => Ok(Vec::new()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

/// Appends an attribute: length, type, value, padding to four bytes (netlink(7)).
fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) -> io::Result<()> {
    let length = u16::try_from(4 + value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
    Ok(())
}

/// Returns the value of the first attribute of this type.
fn attribute_of(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    // The two top bits are flags: nested, network byte order.
    const KIND_MASK: u16 = 0x3fff;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let found = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?) & KIND_MASK;
        let value = attributes.get(4..length)?;
        if found == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_loopback_link_and_no_link_that_is_not_there() {
        let lo = link("lo").unwrap().unwrap();
        assert_eq!((lo.index, lo.name.as_str()), (1, "lo"));
        assert_eq!(link("nixmox-no-such").unwrap(), None);
        assert_eq!(link("an-alternative-name-that-nobody-has").unwrap(), None);
    }

    #[test]
    fn what_went_through_a_link_is_read_and_torn_figures_are_none() {
        let numbers = [1_u64, 2, 300, 400, 5].map(u64::to_ne_bytes).concat();
        assert_eq!(traffic(&numbers), Some(Traffic { received: 300, transmitted: 400 }));
        assert_eq!(traffic(&numbers[..31]), None);
        // What goes out of the loopback comes in again.
        let lo = link("lo").unwrap().unwrap().traffic.unwrap();
        assert_eq!(lo.received, lo.transmitted);
    }

    #[test]
    fn the_ruleset_has_a_number() {
        assert!(ruleset_generation().is_ok());
    }

    #[test]
    fn torn_replies_are_errors_and_not_panics() {
        let mut body = Vec::new();
        push_attribute(&mut body, 3, b"abc").unwrap();
        push_attribute(&mut body, 1, b"x").unwrap();
        assert_eq!(attribute_of(&body, 1), Some(&b"x"[..]));
        for end in 0..body.len() {
            let _ = attribute_of(&body[..end], 1);
            assert!(payload(&body[..end]).is_err());
        }
        // A length of zero would loop for ever.
        assert_eq!(attribute_of(&[0, 0, 9, 0, 0, 0, 0, 0], 1), None);
    }
}
