//! The interface `dns`: one question to one server, and its answer as it stands.
//!
//! Not the resolver that dials ([`resolve`](crate::sandbox::egress::resolve)): this one is for guests that watch the
//! name service itself. A server of the guest's own choice is a destination like any other and needs a `tcp` grant.

use super::HostState;
use crate::sandbox::bindings::wit;
use crate::sandbox::egress::grant::{Host, Target};
use crate::sandbox::egress::reach::Reach;
use crate::sandbox::types::CallError;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `A`, `MX` …
    pub record_type: String,
    /// As a zone file writes it.
    pub data: String,
    /// Seconds.
    pub ttl: u32,
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// `NOERROR`, `NXDOMAIN`, `SERVFAIL` …
    pub code: String,
    /// The answer section.
    pub answers: Vec<Answer>,
    /// From question to answer, a change to TCP included.
    pub elapsed: Duration,
    /// Address and port of who answered.
    pub server: String,
}

/// Where the guest names no time.
const WAIT_DEFAULT: Duration = Duration::from_secs(3);
/// A lost datagram is sent again after this share of the time.
const TRIES: u32 = 2;
/// Bytes of an answer over UDP: no larger size is asked for, but servers may send more than the old 512.
const UDP_BYTES_MAX: usize = 4096;
/// Bytes of the header of a message (RFC 1035, 4.1.1).
const HEADER_BYTES: usize = 12;
/// Records told of one answer.
const ANSWERS_MAX: usize = 256;
/// Bytes read of resolv.conf.
const RESOLV_CONF_BYTES_MAX: u64 = 64 << 10;
/// Types that can be asked for.
const TYPES: [(&str, TYPE); 10] = [
    ("A", TYPE::A),
    ("AAAA", TYPE::AAAA),
    ("CAA", TYPE::CAA),
    ("CNAME", TYPE::CNAME),
    ("MX", TYPE::MX),
    ("NS", TYPE::NS),
    ("PTR", TYPE::PTR),
    ("SOA", TYPE::SOA),
    ("SRV", TYPE::SRV),
    ("TXT", TYPE::TXT),
];

impl Reach {
    /// Asks. `limit` is what is left of the call.
    pub async fn dns(
        &self,
        name: &str,
        record_type: &str,
        server: Option<&str>,
        timeout_ms: u32,
        limit: Duration,
    ) -> Result<Response, CallError> {
        let bare = name.trim_end_matches('.').to_ascii_lowercase();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.*/".contains(&b);
        if !bare.bytes().all(plain) {
            return Err(self.wrong(format!("{name:?} is no name: write it in punycode")));
        }
        if !self.rules.covers_dns(&bare) {
            return Err(self.denied(
                &format!("asking for {bare:?} is not granted"),
                &format!("dns = [\"{bare}\"]"),
            ));
        }
        let known = TYPES
            .iter()
            .find(|(text, _)| text.eq_ignore_ascii_case(record_type));
        let Some((_, record_type)) = known else {
            let all = TYPES.map(|(text, _)| text).join(", ");
            return Err(self.wrong(format!(
                "records of type {record_type:?} cannot be asked for: write one of {all}"
            )));
        };
        let question = question(&bare, *record_type)
            .map_err(|e| self.wrong(format!("{bare:?} is no name: {e}")))?;
        let servers = match server {
            Some(server) => vec![self.dns_server(server)?],
            None => self.system_servers().await,
        };
        let _slot = self.slot()?;
        let wait = match timeout_ms {
            0 => WAIT_DEFAULT.min(limit),
            ms => Duration::from_millis(u64::from(ms)).min(limit),
        };
        let started = Instant::now();
        let share = wait / (TRIES * u32::try_from(servers.len()).unwrap_or(1));
        let mut last = String::new();
        for server in servers.iter().cycle().take(servers.len() * TRIES as usize) {
            match timeout(share, ask(*server, &question)).await {
                Ok(Ok(mut response)) => {
                    response.elapsed = started.elapsed();
                    return Ok(response);
                }
                Ok(Err(e)) => last = format!("{server}: {e}"),
                Err(_) => last = format!("{server}: no answer within {share:?}"),
            }
        }
        Err(self.unavailable(format!("{bare}: {last}")))
    }

    fn dns_server(&self, text: &str) -> Result<SocketAddr, CallError> {
        let address = text.parse::<SocketAddr>().ok().or_else(|| {
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            bare.parse::<IpAddr>()
                .ok()
                .map(|ip| SocketAddr::new(ip, 53))
        });
        let Some(address) = address else {
            return Err(self.wrong(format!(
                "the server {text:?} is not an address, or an address and a port"
            )));
        };
        let ip = address.ip().to_canonical();
        let port = address.port();
        self.admit(&Target::Tcp {
            host: Host::Ip(ip),
            port,
        })?;
        Ok(SocketAddr::new(ip, port))
    }

    /// What resolv.conf names; this host where it names nobody, as the C library does.
    async fn system_servers(&self) -> Vec<SocketAddr> {
        let mut text = String::new();
        if let Ok(file) = tokio::fs::File::open(&self.network.resolv_conf).await {
            // Unreadable text names nobody.
            let _ = file
                .take(RESOLV_CONF_BYTES_MAX)
                .read_to_string(&mut text)
                .await;
        }
        let mut servers = nameservers(&text);
        if servers.is_empty() {
            servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
        }
        servers
    }
}

/// The first three, as the C library takes them. Unlike there a port may follow (`127.0.0.1:5353`).
fn nameservers(resolv_conf: &str) -> Vec<SocketAddr> {
    let lines = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    let address = |text: &str| {
        let with_port = text.parse::<SocketAddr>().ok();
        with_port.or_else(|| {
            text.parse::<IpAddr>()
                .ok()
                .map(|ip| SocketAddr::new(ip, 53))
        })
    };
    lines.filter_map(address).take(3).collect()
}

struct Asked {
    id: u16,
    bytes: Vec<u8>,
    name: String,
    record_type: TYPE,
}

fn question(name: &str, record_type: TYPE) -> Result<Asked, simple_dns::SimpleDnsError> {
    // Not predictable from outside: SipHash with the keys of this process, new ones for every question.
    let id = RandomState::new().build_hasher().finish() as u16;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let asked = Question::new(
        Name::new(name)?,
        QTYPE::TYPE(record_type),
        QCLASS::CLASS(CLASS::IN),
        false,
    );
    packet.questions.push(asked);
    Ok(Asked {
        id,
        bytes: packet.build_bytes_vec()?,
        name: name.to_owned(),
        record_type,
    })
}

async fn ask(server: SocketAddr, asked: &Asked) -> Result<Response, String> {
    let text = |e: std::io::Error| e.to_string();
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.map_err(text)?;
    // Connected: the kernel drops datagrams of anybody else.
    socket.connect(server).await.map_err(text)?;
    socket.send(&asked.bytes).await.map_err(text)?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(text)?;
        match read(&buffer[..length], asked, server) {
            Read::Answer(response) => return Ok(response),
            Read::Truncated => break,
            // A late answer to somebody else's question, or a forged one: ours may still come.
            Read::Foreign => {}
            Read::Unreadable(e) => return Err(e),
        }
    }
    let mut stream = TcpStream::connect(server).await.map_err(text)?;
    let length = u16::try_from(asked.bytes.len()).map_err(|e| e.to_string())?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&asked.bytes);
    stream.write_all(&framed).await.map_err(text)?;
    let length = stream.read_u16().await.map_err(text)?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await.map_err(text)?;
    match read(&buffer, asked, server) {
        Read::Answer(response) => Ok(response),
        Read::Truncated => Err("the answer is cut short over TCP too".to_owned()),
        Read::Foreign => Err("the answer is to another question".to_owned()),
        Read::Unreadable(e) => Err(e),
    }
}

enum Read {
    Answer(Response),
    Truncated,
    Foreign,
    Unreadable(String),
}

fn read(bytes: &[u8], asked: &Asked, server: SocketAddr) -> Read {
    // The id first, by hand: a stranger's datagram need not be readable at all.
    if bytes.get(..2) != Some(&asked.id.to_be_bytes()[..]) {
        return Read::Foreign;
    }
    let Some(header) = bytes.get(..HEADER_BYTES) else {
        return Read::Unreadable("the answer has no header".to_owned());
    };
    // Before the parser: a cut answer may end inside a record.
    if header[2] & 0x02 != 0 {
        return Read::Truncated;
    }
    // The parser makes room for as many records as the header promises.
    let promised = header[4..]
        .chunks(2)
        .map(|c| usize::from(c[0]) << 8 | usize::from(c[1]))
        .sum::<usize>();
    if promised > bytes.len() {
        return Read::Unreadable("the answer promises more records than fit into it".to_owned());
    }
    let packet = match Packet::parse(bytes) {
        Ok(packet) => packet,
        Err(e) => return Read::Unreadable(format!("the answer cannot be read: {e}")),
    };
    // Servers that refuse may leave the question out.
    let ours = |q: &Question<'_>| {
        q.qname.to_string().eq_ignore_ascii_case(&asked.name)
            && q.qtype == QTYPE::TYPE(asked.record_type)
    };
    if !packet.has_flags(PacketFlag::RESPONSE) || !packet.questions.iter().all(ours) {
        return Read::Foreign;
    }
    let answers = packet
        .answers
        .iter()
        .take(ANSWERS_MAX)
        .filter_map(|record| {
            let (record_type, data) = shown(&record.rdata)?;
            Some(Answer {
                record_type: record_type.to_owned(),
                data,
                ttl: record.ttl,
            })
        });
    Read::Answer(Response {
        code: code(packet.rcode()),
        answers: answers.collect(),
        elapsed: Duration::ZERO,
        server: server.to_string(),
    })
}

/// The mnemonics of RFC 1035 and RFC 6895.
fn code(code: RCODE) -> String {
    match code {
        RCODE::NoError => "NOERROR",
        RCODE::FormatError => "FORMERR",
        RCODE::ServerFailure => "SERVFAIL",
        RCODE::NameError => "NXDOMAIN",
        RCODE::NotImplemented => "NOTIMP",
        RCODE::Refused => "REFUSED",
        other => return format!("{other:?}").to_ascii_uppercase(),
    }
    .to_owned()
}

fn shown(data: &RData<'_>) -> Option<(&'static str, String)> {
    Some(match data {
        RData::A(a) => ("A", Ipv4Addr::from(a.address).to_string()),
        RData::AAAA(a) => ("AAAA", Ipv6Addr::from(a.address).to_string()),
        RData::CNAME(name) => ("CNAME", name.0.to_string()),
        RData::NS(name) => ("NS", name.0.to_string()),
        RData::PTR(name) => ("PTR", name.0.to_string()),
        RData::MX(mx) => ("MX", format!("{} {}", mx.preference, mx.exchange)),
        RData::SRV(srv) => {
            let fields = format!(
                "{} {} {} {}",
                srv.priority, srv.weight, srv.port, srv.target
            );
            ("SRV", fields)
        }
        RData::SOA(soa) => {
            let times = format!(
                "{} {} {} {}",
                soa.refresh, soa.retry, soa.expire, soa.minimum
            );
            (
                "SOA",
                format!("{} {} {} {times}", soa.mname, soa.rname, soa.serial),
            )
        }
        RData::CAA(caa) => {
            let value = String::from_utf8_lossy(&caa.value);
            ("CAA", format!("{} {} {value:?}", caa.flag, caa.tag))
        }
        RData::TXT(txt) => ("TXT", txt_text(txt)),
        _ => return None,
    })
}

/// The strings of the record one behind the other, as SPF and DKIM are read.
fn txt_text(txt: &simple_dns::rdata::TXT<'_>) -> String {
    // Not `iter_raw`, which leaves out strings that begin with `=` (the middle of a DKIM key does).
    String::try_from(txt.clone())
        .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

impl wit::dns::Host for HostState {
    async fn query(
        &mut self,
        name: String,
        record_type: String,
        server: Option<String>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<wit::dns::Response, wit::types::Error>> {
        let charged = self.charge()?;
        self.cost.requests += 1;
        let left = self.left();
        let reach = &self.using.reach;
        let asked = reach
            .dns(&name, &record_type, server.as_deref(), timeout_ms, left)
            .await;
        self.answer(charged, asked.map(Into::into))
    }
}

impl From<Response> for wit::dns::Response {
    fn from(response: Response) -> Self {
        let answers = response.answers.into_iter().map(|answer| wit::dns::Answer {
            record_type: answer.record_type,
            data: answer.data,
            ttl: answer.ttl,
        });
        wit::dns::Response {
            code: response.code,
            answers: answers.collect(),
            elapsed_us: super::micros(response.elapsed),
            server: response.server,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// A server, or whoever answers in its place, may send anything.
        #[test]
        fn no_answer_is_too_strange(bytes: Vec<u8>, flags: [u8; 10]) {
            let asked = question("example.org", TYPE::A).expect("a question");
            let mut answer = asked.id.to_be_bytes().to_vec();
            answer.extend(flags);
            answer.extend(bytes);
            let _ = read(&answer, &asked, SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
            // As many records as it promises, so that the parser is reached.
            answer[2..HEADER_BYTES].copy_from_slice(&[0x80, 0, 0, 0, 0, 1, 0, 1, 0, 0]);
            let _ = read(&answer, &asked, SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
        }
    }

    #[test]
    fn servers_are_named_as_the_c_library_reads_them() {
        let text = "nameserver 192.0.2.1\n nameserver 2001:db8::1 # second\noptions ndots:5\nnameserver\n\
                    nameserver x\nnameserver 192.0.2.2:5353\nnameserver 192.0.2.3\n";
        let named: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(
            named,
            ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:5353"]
        );
    }
}
