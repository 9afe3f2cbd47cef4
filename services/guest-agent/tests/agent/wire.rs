//! One port, every protocol: Connect, gRPC and gRPC-Web, JSON and binary, HTTP/1.1 and h2c.

use crate::support::{Agent, Events, envelope};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use buffa::Message as _;
use connectrpc::client::{CallOptions, ClientConfig, HttpClient, call_server_stream, call_unary};
use connectrpc::{ErrorCode, Protocol, Spec, StreamType};
use proto::google::rpc::ErrorInfo;
use proto::process::__buffa::oneof::process_event::Event;
use proto::process::__buffa::oneof::process_event::data_event::Output;
use proto::process::__buffa::oneof::process_selector::Selector;
use proto::process::__buffa::view::{CloseStdinResponseView, ListResponseView, StartResponseView};
use proto::process::{CloseStdinRequest, ListRequest, ProcessConfig, ProcessSelector, StartRequest, StartResponse};
use serde_json::{Value, json};

#[allow(dead_code, unexpected_cfgs, clippy::all, clippy::unwrap_used, clippy::expect_used)]
mod proto {
    connectrpc::include_generated!();
}

const START: Spec = Spec::client("/process.Process/Start", StreamType::ServerStream);
const CLOSE_STDIN: Spec = Spec::client("/process.Process/CloseStdin", StreamType::Unary);
const LIST: Spec = Spec::client("/process.Process/List", StreamType::Unary);

fn start(cmd: &str, args: &[&str]) -> StartRequest {
    let args = args.iter().map(|a| (*a).to_owned()).collect();
    let config = ProcessConfig { cmd: cmd.to_owned(), args, ..Default::default() };
    StartRequest { process: config.into(), ..Default::default() }
}

fn config(agent: &Agent, protocol: Protocol, is_json: bool) -> ClientConfig {
    let uri = format!("http://{}", agent.address).parse().unwrap();
    let config = ClientConfig::new(uri).with_protocol(protocol);
    if is_json { config.json() } else { config.proto() }
}

#[tokio::test]
async fn streams_a_process_in_every_protocol_and_codec_over_both_http_versions() {
    let agent = Agent::start();
    for protocol in [Protocol::Connect, Protocol::Grpc, Protocol::GrpcWeb] {
        for is_json in [false, true] {
            // gRPC proper needs the trailers of HTTP/2.
            let old = (protocol != Protocol::Grpc).then(HttpClient::plaintext);
            for client in [Some(HttpClient::plaintext_http2_only()), old].into_iter().flatten() {
                let config = config(&agent, protocol, is_json);
                let request = start("/bin/sh", &["-c", "printf '\\377\\000'; exit 4"]);
                let options = CallOptions::default();
                let mut stream =
                    call_server_stream::<_, _, StartResponseView<'static>>(&client, &config, START, request, options)
                        .await
                        .unwrap();
                let (mut bytes, mut code) = (Vec::new(), None);
                while let Some(message) = stream.message::<StartResponse>().await.unwrap() {
                    match message.to_owned_message().event.into_option().unwrap().event {
                        Some(Event::Data(data)) => match data.output {
                            Some(Output::Stdout(more)) => bytes.extend(more),
                            other => panic!("{other:?}"),
                        },
                        Some(Event::End(end)) => code = Some(end.exit_code),
                        _ => {}
                    }
                }
                assert_eq!((bytes.as_slice(), code), ([255, 0].as_slice(), Some(4)), "{protocol:?} json {is_json}");
                call_unary::<_, _, ListResponseView<'static>>(
                    &client,
                    &config,
                    LIST,
                    ListRequest::default(),
                    CallOptions::default(),
                )
                .await
                .unwrap();
            }
        }
    }
}

#[tokio::test]
async fn carries_the_reason_of_an_error_over_grpc() {
    let agent = Agent::start();
    let config = config(&agent, Protocol::Grpc, false);
    let client = HttpClient::plaintext_http2_only();
    let process = ProcessSelector { selector: Some(Selector::Tag("none".to_owned())), ..Default::default() };
    let request = CloseStdinRequest { process: process.into(), ..Default::default() };
    let options = CallOptions::default();
    let called = call_unary::<_, _, CloseStdinResponseView<'static>>(&client, &config, CLOSE_STDIN, request, options);
    let error = called.await.map(drop).expect_err("the call is refused");
    assert_eq!(error.code, ErrorCode::NotFound);
    let info = error.details.first().and_then(|detail| detail.value.clone()).unwrap_or_default();
    let info = STANDARD_NO_PAD.decode(info.trim_end_matches('=')).unwrap();
    let info = ErrorInfo::decode_from_slice(&info).unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("PROCESS_NOT_FOUND", "agent.wrenn"));
}

#[tokio::test]
async fn drops_the_h2_connections_of_a_guest_that_was_frozen() {
    let agent = Agent::start();
    let config = config(&agent, Protocol::Grpc, false);
    let client = HttpClient::plaintext_http2_only();
    let options = CallOptions::default();
    let called = call_server_stream::<_, _, StartResponseView<'static>>(
        &client,
        &config,
        START,
        start("/bin/cat", &[]),
        options,
    );
    let mut stream = called.await.unwrap();
    assert!(stream.message::<StartResponse>().await.unwrap().is_some());
    let init =
        json!({ "sandboxId": format!("cl-{}", "0".repeat(25)), "templateId": "t", "time": "2999-01-01T00:00:00Z" });
    agent.call("wrenn.agent.v1.AgentService/Init", &init).unwrap();
    assert!(stream.message::<StartResponse>().await.is_err());
    assert_eq!(agent.listed().len(), 1, "the process lives on");
}

#[test]
fn reports_its_health_for_itself_and_each_service() {
    let agent = Agent::start();
    for service in ["", "process.Process", "filesystem.Filesystem", "wrenn.agent.v1.AgentService"] {
        let answer = agent.call("grpc.health.v1.Health/Check", &json!({ "service": service })).unwrap();
        assert_eq!(answer["status"], "SERVING", "{service}");
    }
    let refusal = agent.call("grpc.health.v1.Health/Check", &json!({ "service": "no.such.Service" })).unwrap_err();
    assert_eq!(refusal.code, "not_found");
}

#[test]
fn describes_all_its_services_by_reflection_in_both_versions() {
    let agent = Agent::start();
    for version in ["v1", "v1alpha"] {
        let method = format!("grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let ask = |request: Value| -> Value {
            let mut events: Events = agent.stream(&method, &request, &[]);
            events.next().unwrap().unwrap()
        };
        let answer = ask(json!({ "listServices": "" }));
        let services = answer["listServicesResponse"]["service"].as_array().unwrap();
        for name in [
            "process.Process",
            "filesystem.Filesystem",
            "wrenn.agent.v1.AgentService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ] {
            assert!(services.iter().any(|s| s["name"] == name), "{name} in {version}");
            let described = ask(json!({ "fileContainingSymbol": name }));
            assert!(described["fileDescriptorResponse"]["fileDescriptorProto"][0].is_string(), "{described}");
        }
    }
}

#[test]
fn answers_unknown_methods_and_broken_messages_with_a_code() {
    let agent = Agent::start();
    let json_type = [("content-type", "application/json")];
    assert_eq!(agent.http("POST", "/process.Process/Nothing", &json_type, b"{}").status, 404);
    assert_eq!(
        agent.call("process.Process/CloseStdin", &json!({ "process": 1 })).unwrap_err().code,
        "invalid_argument"
    );
    let cut = &envelope(&json!({}))[..3];
    let answer = agent.http("POST", "/process.Process/Start", &[("content-type", "application/connect+json")], cut);
    assert!(String::from_utf8_lossy(&answer.body).contains("\"error\""));
    assert_eq!(agent.sh("echo still here").run().text(), "still here\n");
}
