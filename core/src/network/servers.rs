//! Whom guests ask for names: the text of the resolv.conf(5) that they share.

use std::net::IpAddr;

use crate::model::Servers;

/// Returns what guests are to have; `None`: what they have, for want of anything better.
///
/// That is the host's own file, or what systemd-resolved(8) knows behind its stub: the first of both whose servers are all reached
/// from a network namespace of one's own, which a loopback address is not; else those lines of the host's own of which that is
/// true. Where there is none, guests keep one of before that is of use; else they have the host's own as it is, for those in the
/// host's network.
#[must_use]
pub fn for_guests(servers: &Servers) -> Option<String> {
    let Servers { own, behind_stub, guests } = servers;
    if let Some(text) = [own, behind_stub].into_iter().flatten().find(|text| are_all_reached(text)) {
        return Some(text.clone());
    }
    let own = own.as_ref().filter(|own| named_in(own).next().is_some())?;
    if is_of_use(own) {
        let reached = |line: &&str| named_on(line).is_none_or(Server::is_reached);
        return Some(own.lines().filter(reached).flat_map(|line| [line, "\n"]).collect());
    }
    if guests.as_deref().is_some_and(is_of_use) { None } else { Some(own.clone()) }
}

/// Returns whether a text names servers, and all of them are reached from a network namespace of one's own.
#[must_use]
pub fn are_all_reached(text: &str) -> bool {
    let mut found = named_in(text).peekable();
    found.peek().is_some() && found.all(Server::is_reached)
}

/// Returns whether guests have what they are to have.
#[must_use]
pub fn are_right(servers: &Servers) -> bool {
    for_guests(servers).is_none_or(|text| servers.guests.as_ref() == Some(&text))
}

/// Returns whether guests with a network of their own have nobody to ask, since the host asks itself alone.
#[must_use]
pub fn are_out_of_reach(servers: &Servers) -> bool {
    for_guests(servers).or_else(|| servers.guests.clone()).is_some_and(|text| !is_of_use(&text))
}

fn is_of_use(text: &str) -> bool {
    named_in(text).any(Server::is_reached)
}

/// Who a line names. What is no address is left to those who read the file.
#[derive(Clone, Copy)]
struct Server(Option<IpAddr>);

impl Server {
    fn is_reached(self) -> bool {
        self.0.is_none_or(|server| !server.is_loopback() && !server.is_unspecified())
    }
}

fn named_in(text: &str) -> impl Iterator<Item = Server> {
    text.lines().filter_map(named_on)
}

fn named_on(line: &str) -> Option<Server> {
    let mut words = line.split_whitespace();
    let server = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
    // A link-local address has its link behind it.
    let address = server.split_once('%').map_or(server, |(address, _)| address);
    Some(Server(address.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUB: &str = "nameserver 127.0.0.53\noptions edns0\n";
    const ROUTER: &str = "search lan\nnameserver 192.168.1.1 # the router\n";
    const UPLINK: &str = "nameserver 192.0.2.1\nnameserver fe80::1%eth0\n";

    fn servers(own: &str, behind_stub: &str, guests: &str) -> Servers {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Servers { own: text(own), behind_stub: text(behind_stub), guests: text(guests) }
    }

    #[test]
    fn guests_are_given_the_first_that_they_can_reach() {
        for (own, behind_stub, kept, given) in [
            (ROUTER, "", "", Some(ROUTER)),
            (ROUTER, UPLINK, STUB, Some(ROUTER)),
            (STUB, UPLINK, ROUTER, Some(UPLINK)),
            // Those of before stay, where the host knows of none now.
            (STUB, "# none\n", ROUTER, None),
            ("", "", ROUTER, None),
            ("search lan\n", "", ROUTER, None),
            ("", "", "", None),
            // For those in the host's network.
            (STUB, "", "", Some(STUB)),
            (STUB, "", "nameserver ::1\n", Some(STUB)),
            // A server that is asked in vain first makes every question slow.
            ("nameserver ::1\nnameserver 10.0.0.1\n", "", "", Some("nameserver 10.0.0.1\n")),
            ("nameserver 127.0.0.1\nnameserver 10.0.0.1\n", UPLINK, "", Some(UPLINK)),
            // Not everything that begins like one is one, nor is what cannot be read a loopback address.
            ("nameservers 127.0.0.1\n", "", ROUTER, None),
            ("nameserver what\n", "", ROUTER, Some("nameserver what\n")),
        ] {
            let servers = servers(own, behind_stub, kept);
            assert_eq!(for_guests(&servers).as_deref(), given, "{servers:?}");
            let after = Servers { guests: for_guests(&servers).or(servers.guests.clone()), ..servers };
            assert!(are_right(&after), "it is never done: {after:?}");
        }
    }

    #[test]
    fn a_host_that_asks_itself_alone_is_of_no_use_to_guests() {
        assert!(are_out_of_reach(&servers("nameserver 127.0.0.1\n", "", "")));
        assert!(are_out_of_reach(&servers("nameserver ::1\n", "", "nameserver ::1\n")));
        assert!(!are_out_of_reach(&servers(STUB, UPLINK, "")));
        assert!(!are_out_of_reach(&servers(STUB, "", ROUTER)), "they have one of before");
        assert!(!are_out_of_reach(&servers("", "", "")), "nobody is known of, as on a host without a network");
    }
}
