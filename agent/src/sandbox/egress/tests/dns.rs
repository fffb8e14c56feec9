//! Questions to name servers.

use super::*;
use crate::sandbox::host::dns::{Answer, Response};
use simple_dns::rdata::{A, MX, RData, TXT};
use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord};
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;

/// What the server under test says to a question, as often as it is asked.
type Script = fn(&Packet<'_>) -> Vec<Vec<u8>>;

/// Serves UDP by `udp` and TCP by `tcp` on one port.
async fn name_server(udp: Script, tcp: Script) -> u16 {
    let (listener, port) = listen().await;
    let socket = UdpSocket::bind(("127.0.0.1", port))
        .await
        .expect("the same port");
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let question = Packet::parse(&buffer[..length]).expect("a question");
            for answer in udp(&question) {
                socket.send_to(&answer, from).await.expect("sent");
            }
        }
    });
    serve(listener, move |mut stream| async move {
        let length = stream.read_u16().await.expect("a length");
        let mut buffer = vec![0; usize::from(length)];
        stream.read_exact(&mut buffer).await.expect("a question");
        let answer = tcp(&Packet::parse(&buffer).expect("a question")).concat();
        stream.write_u16(answer.len() as u16).await.expect("sent");
        stream.write_all(&answer).await.expect("sent");
    });
    port
}

fn reply(question: &Packet<'_>, code: RCODE, records: Vec<RData<'static>>) -> Vec<u8> {
    let mut packet = Packet::new_reply(question.id());
    *packet.rcode_mut() = code;
    let asked = question.questions[0].clone();
    for record in records {
        packet.answers.push(ResourceRecord::new(
            asked.qname.clone(),
            CLASS::IN,
            60,
            record,
        ));
    }
    packet.questions.push(asked);
    packet.build_bytes_vec().expect("a packet")
}

fn address(question: &Packet<'_>) -> Vec<Vec<u8>> {
    vec![reply(
        question,
        RCODE::NoError,
        vec![RData::A(A {
            address: 0x5db8_d822,
        })],
    )]
}

fn nobody(_: &Packet<'_>) -> Vec<Vec<u8>> {
    Vec::new()
}

/// A use that may ask for names under example.org, on a host whose resolv.conf names that server.
fn fixture(port: u16, tcp: &[&str]) -> (tempfile::TempDir, Fixture) {
    let folder = tempfile::tempdir().expect("a folder");
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(
        &resolv_conf,
        format!("search a b\nnameserver 127.0.0.1:{port}\n# nameserver ::1\n"),
    )
    .expect("written");
    let mut setup = Setup::tcp(tcp);
    setup.grants.dns = own(&["example.org", "*.example.org"]);
    setup.settings.resolv_conf = resolv_conf;
    (folder, setup.make())
}

async fn ask(fixture: &Fixture, name: &str, record_type: &str) -> Result<Response, CallError> {
    fixture.reach.dns(name, record_type, None, 0, LONG).await
}

#[tokio::test]
async fn an_answer_comes_as_it_stands() {
    let port = name_server(address, nobody).await;
    let (_folder, fixture) = fixture(port, &[]);
    let response = ask(&fixture, "WWW.Example.org.", "a")
        .await
        .expect("an answer");
    assert_eq!(response.code, "NOERROR");
    assert_eq!(response.server, format!("127.0.0.1:{port}"));
    assert_eq!(
        response.answers,
        [Answer {
            record_type: "A".to_owned(),
            data: "93.184.216.34".to_owned(),
            ttl: 60
        }]
    );
    assert!(response.elapsed > Duration::ZERO);
}

#[tokio::test]
async fn other_records_are_written_as_in_a_zone() {
    let port = name_server(
        |question| {
            let mx = MX {
                preference: 10,
                exchange: Name::new_unchecked("mx.example.org"),
            };
            let txt = TXT::new()
                .with_string("v=DKIM1; p=abc")
                .expect("text")
                .with_string("=def")
                .expect("text");
            vec![reply(
                question,
                RCODE::NoError,
                vec![RData::MX(mx), RData::TXT(txt)],
            )]
        },
        nobody,
    )
    .await;
    let (_folder, fixture) = fixture(port, &[]);
    let response = ask(&fixture, "example.org", "MX").await.expect("an answer");
    let told: Vec<_> = response
        .answers
        .iter()
        .map(|a| (a.record_type.as_str(), a.data.as_str()))
        .collect();
    assert_eq!(
        told,
        [("MX", "10 mx.example.org"), ("TXT", "v=DKIM1; p=abc=def")]
    );
}

#[tokio::test]
async fn no_such_name_is_an_answer() {
    let port = name_server(|q| vec![reply(q, RCODE::NameError, Vec::new())], nobody).await;
    let (_folder, fixture) = fixture(port, &[]);
    let response = ask(&fixture, "gone.example.org", "AAAA")
        .await
        .expect("an answer");
    assert_eq!(
        (response.code.as_str(), response.answers.len()),
        ("NXDOMAIN", 0)
    );
}

#[tokio::test]
async fn forged_answers_are_passed_over_and_cut_ones_asked_for_again() {
    fn forged_then_cut(question: &Packet<'_>) -> Vec<Vec<u8>> {
        let mut other_id = reply(question, RCODE::Refused, Vec::new());
        other_id[0] ^= 0xff;
        let mut other_name = Packet::new_query(question.id());
        other_name.questions.push(simple_dns::Question::new(
            Name::new_unchecked("evil.example"),
            question.questions[0].qtype,
            question.questions[0].qclass,
            false,
        ));
        let other_name = reply(&other_name, RCODE::Refused, Vec::new());
        let mut cut = Packet::new_reply(question.id());
        cut.set_flags(PacketFlag::TRUNCATION);
        let cut = cut.build_bytes_vec().expect("a packet");
        vec![other_id, other_name, b"x".to_vec(), cut]
    }
    let port = name_server(forged_then_cut, address).await;
    let (_folder, fixture) = fixture(port, &[]);
    let response = ask(&fixture, "www.example.org", "A")
        .await
        .expect("an answer");
    assert_eq!(response.answers[0].data, "93.184.216.34");
}

#[tokio::test]
async fn silence_and_nonsense_are_unavailable() {
    fn promises(question: &Packet<'_>) -> Vec<Vec<u8>> {
        let mut bytes = reply(question, RCODE::NoError, Vec::new());
        bytes[6..12].fill(0xff);
        vec![bytes]
    }
    let silent = name_server(nobody, nobody).await;
    let (_folder, quiet) = fixture(silent, &[]);
    let late = quiet
        .reach
        .dns("example.org", "A", None, 100, LONG)
        .await
        .expect_err("silence");
    assert_eq!(
        late.to_string(),
        format!("example.org: 127.0.0.1:{silent}: no answer within 50ms")
    );
    let port = name_server(promises, nobody).await;
    let (_folder, nonsense) = fixture(port, &[]);
    let refused = ask(&nonsense, "example.org", "A")
        .await
        .expect_err("nonsense");
    assert!(
        is_unavailable(&refused) && refused.to_string().contains("more records than fit"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn names_and_servers_need_their_grants() {
    let port = name_server(address, nobody).await;
    let (_folder, closed) = fixture(port, &[]);
    let text = ask(&closed, "Other.example.", "A")
        .await
        .expect_err("not granted")
        .to_string();
    assert!(
        text.ends_with("add `dns = [\"other.example\"]` to the grant of \"ops-slack\""),
        "{text}"
    );
    let text = ask(&closed, "example.org", "ANY")
        .await
        .expect_err("no such type")
        .to_string();
    assert!(text.contains("write one of A, AAAA"), "{text}");
    let own_server = format!("127.0.0.1:{port}");
    let asked = closed
        .reach
        .dns("example.org", "A", Some(&own_server), 0, LONG)
        .await;
    let text = asked.expect_err("not granted").to_string();
    assert!(
        text.ends_with(&format!(
            "add `tcp = [\"{own_server}\"]` to the grant of \"ops-slack\""
        )),
        "{text}"
    );
    let (_folder, open) = fixture(1, &[&own_server]);
    let response = open
        .reach
        .dns("example.org", "A", Some(&own_server), 0, LONG)
        .await
        .expect("an answer");
    assert_eq!(response.code, "NOERROR");
    for server in ["169.254.169.254", "[fe80::1]:53", "metadata.example"] {
        let refused = open
            .reach
            .dns("example.org", "A", Some(server), 0, LONG)
            .await
            .expect_err(server);
        assert!(
            matches!(refused, CallError::Denied(_) | CallError::Config(_)),
            "{refused:?}"
        );
    }
}
