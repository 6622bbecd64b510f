//! Non-blocking reads and writes of one socket.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::BorrowedFd,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown},
};

use crate::ids::Network;

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes; 1 or more.
    Bytes(usize),
    /// Nothing there now.
    Nothing,
    /// The peer is gone, politely or not.
    End,
}

/// Reads once into the buffer.
pub fn read(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Read {
    loop {
        return match rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Read::End,
            Ok((n, _)) => Read::Bytes(n),
            Err(Errno::AGAIN) => Read::Nothing,
            Err(Errno::INTR) => continue,
            Err(_) => Read::End,
        };
    }
}

/// Writes what the kernel takes of the slices, in one call. `WouldBlock`: nothing fits now.
pub fn write(socket: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        let sent = match slices {
            [one] => rustix::net::send(socket, one, flags),
            many => rustix::net::sendmsg(socket, many, &mut SendAncillaryBuffer::default(), flags),
        };
        match sent {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// As [`write`]; small slices are put together in the scratch buffer first, since the kernel takes one run of bytes more
/// cheaply than many.
pub fn write_together(
    socket: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    scratch: &mut [u8],
) -> io::Result<usize> {
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    let small = total <= TOGETHER_BYTES_MAX.min(scratch.len());
    if slices.len() < 2 || !small {
        return write(socket, slices);
    }
    let mut end = 0;
    for slice in slices {
        scratch[end..end + slice.len()].copy_from_slice(slice);
        end += slice.len();
    }
    write(socket, &[IoSlice::new(&scratch[..end])])
}

/// Up to here copying is cheaper than a gathering write.
const TOGETHER_BYTES_MAX: usize = 16 * 1024;

/// Where the peer is; the default where it is gone already.
pub fn network(socket: BorrowedFd<'_>) -> Network {
    let address = rustix::net::getpeername(socket).ok().flatten();
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    address.map(|address| Network::from(address.ip())).unwrap_or_default()
}

/// Tells the peer that nothing more will come. An error means that it is gone, which the next read finds too.
pub fn finish(socket: BorrowedFd<'_>) {
    rustix::net::shutdown(socket, Shutdown::Write).ok();
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::{fd::AsFd, unix::net::UnixStream},
    };

    use super::*;

    #[test]
    fn slices_arrive_in_order_whether_they_fit_the_scratch_buffer_or_not() {
        for scratch_bytes in [64, 4] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let slices = [IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"defg")];
            let sent = write_together(ours.as_fd(), &slices, &mut vec![0; scratch_bytes]).unwrap();
            drop(ours);
            let mut got = String::new();
            theirs.read_to_string(&mut got).unwrap();
            assert_eq!((sent, got.as_str()), (7, "abcdefg"));
        }
    }
}
