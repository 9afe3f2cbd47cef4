//! The two interfaces of every guest. The addresses are the same in all of them: the host tells its guests
//! apart by network namespace.

use super::{Failure, Naming as _, wait_for};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::mem::zeroed;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 21);
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 252);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 22);
const PATIENCE: Duration = Duration::from_secs(5);

pub fn bring_up() -> Result<(), Failure> {
    let control = Control::open().naming("open a socket")?;
    control.up("lo").naming("bring up lo")?;
    if !wait_for(PATIENCE, || Path::new("/sys/class/net/eth0").exists()) {
        return Err(format!("did not appear within {} s", PATIENCE.as_secs())).naming("eth0");
    }
    control.set_address("eth0", ADDRESS, NETMASK).naming("give eth0 its address")?;
    control.up("eth0").naming("bring up eth0")?;
    control.set_gateway(GATEWAY).naming("set the default route")
}

struct Control(OwnedFd);

impl Control {
    fn open() -> nix::Result<Self> {
        socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).map(Self)
    }

    fn up(&self, interface: &str) -> nix::Result<()> {
        let mut request = named(interface);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        self.apply(libc::SIOCSIFFLAGS, &request)
    }

    fn set_address(&self, interface: &str, address: Ipv4Addr, netmask: Ipv4Addr) -> nix::Result<()> {
        let mut request = named(interface);
        request.ifr_ifru.ifru_addr = sockaddr(address);
        self.apply(libc::SIOCSIFADDR, &request)?;
        request.ifr_ifru.ifru_netmask = sockaddr(netmask);
        self.apply(libc::SIOCSIFNETMASK, &request)
    }

    fn set_gateway(&self, gateway: Ipv4Addr) -> nix::Result<()> {
        // SAFETY: all zeroes is a valid rtentry: numbers and a null device name.
        let mut route: libc::rtentry = unsafe { zeroed() };
        route.rt_dst = sockaddr(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = sockaddr(Ipv4Addr::UNSPECIFIED);
        route.rt_gateway = sockaddr(gateway);
        route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
        self.apply(libc::SIOCADDRT, &route)
    }

    fn apply<T>(&self, request: libc::c_ulong, argument: &T) -> nix::Result<()> {
        // SAFETY: each caller pairs the request with the structure that it reads.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) }).map(drop)
    }
}

fn named(interface: &str) -> libc::ifreq {
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request
}

fn sockaddr(address: Ipv4Addr) -> libc::sockaddr {
    let [a, b, c, d] = address.octets().map(|byte| byte as libc::c_char);
    let sa_family = libc::AF_INET as libc::sa_family_t;
    // The layout of sockaddr_in: port, then the address in network order.
    libc::sockaddr { sa_family, sa_data: [0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0] }
}
