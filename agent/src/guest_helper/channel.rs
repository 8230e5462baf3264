//! Messages between the agent and a helper that lasts: JSON, one in a packet, with the descriptors that it hands over.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Longest message. The kernel queues no more than some 200 KiB of a packet (`net.core.wmem_default`, socket(7)).
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Most descriptors that come with a message.
const DESCRIPTORS_MAX: usize = 3;

/// One end of a socket of packets (`SOCK_SEQPACKET`, unix(7)); it is at its end when the other one is closed.
#[derive(Debug)]
pub(crate) struct Channel(UnixStream);

impl Channel {
    /// Returns an end for this process, and one that a child is given.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::new(ours)?, theirs))
    }

    /// Takes the end that this process was given.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        // Only what packets and streams have in common is used of it.
        Ok(Self(UnixStream::from_std(socket)?))
    }

    /// Sends a message with descriptors, which stay open here.
    ///
    /// # Errors
    /// `EMSGSIZE` when it is too long; `EPIPE` when the other end is closed.
    pub(crate) async fn send(&self, message: &impl Serialize, descriptors: &[OwnedFd]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let sent = self.0.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            Ok(sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?)
        });
        sent.await.map(drop)
    }

    /// Waits for a message; `None` when the other end is closed. Cancel-safe.
    pub(crate) async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let (bytes, descriptors) = self.0.async_io(Interest::READABLE, || self.take()).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&bytes)?, descriptors)))
    }

    fn take(&self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            // Not our enum, and it may grow; nothing else is sent.
            _ => None,
        });
        let descriptors = descriptors.flatten().collect();
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        bytes.truncate(received.bytes);
        Ok((bytes, descriptors))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test]
    async fn messages_arrive_whole_and_with_their_descriptors_until_the_end() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::new(theirs).unwrap();
        let (mut read, write) = std::io::pipe().unwrap();
        ours.send(&"first", &[write.into()]).await.unwrap();
        ours.send(&"x".repeat(100_000), &[]).await.unwrap();
        let (text, mut descriptors): (String, _) = theirs.receive().await.unwrap().unwrap();
        assert_eq!((text.as_str(), descriptors.len()), ("first", 1));
        std::fs::File::from(descriptors.pop().unwrap()).write_all(b"through").unwrap();
        let mut through = String::new();
        read.read_to_string(&mut through).unwrap();
        assert_eq!(through, "through");
        let (long, none): (String, _) = theirs.receive().await.unwrap().unwrap();
        assert_eq!((long.len(), none.len()), (100_000, 0));
        drop(ours);
        assert!(theirs.receive::<String>().await.unwrap().is_none());
        theirs.send(&"nobody", &[]).await.unwrap_err();
    }

    #[tokio::test]
    async fn what_is_too_long_is_refused_where_it_is_sent() {
        let (ours, _theirs) = Channel::pair().unwrap();
        ours.send(&"x".repeat(4 << 20), &[]).await.unwrap_err();
    }
}
