//! Who may call: tokens, certificates, reflection.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::{
    Code, Request,
    transport::{Certificate, ClientTlsConfig, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use super::*;
use crate::{config::settings::Secret, generated::realtime::GetConnectionStatsRequest};

#[tokio::test]
async fn a_configured_token_is_asked_of_every_call_but_health() {
    let world = World::start(|settings| settings.callers.token = Some(Secret("s3cret".into())));
    let mut client = world.client().await;
    let with = |token: Option<&str>| {
        let mut request = Request::new(GetConnectionStatsRequest {});
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    };
    for token in [None, Some("wrong")] {
        let refused = client.get_connection_stats(with(token)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    assert!(client.get_connection_stats(with(Some("s3cret"))).await.is_ok());
    assert_eq!(list_v1(&world).await.unwrap_err().code(), Code::Unauthenticated);
    let mut health = HealthClient::new(world.channel().await);
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
}

async fn list_v1(world: &World) -> Result<Vec<String>, tonic::Status> {
    use v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = ServerReflectionClient::new(world.channel().await);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
    match answers.message().await?.unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => panic!("{other:?}"),
    }
}

async fn list_v1alpha(world: &World) -> Vec<String> {
    use v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = ServerReflectionClient::new(world.channel().await);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn both_reflections_know_the_services() {
    let world = World::start(|_| ());
    for services in [list_v1(&world).await.unwrap(), list_v1alpha(&world).await] {
        for service in ["realtime.RealtimeService", "grpc.health.v1.Health"] {
            assert!(services.iter().any(|known| known == service), "{service} not in {services:?}");
        }
    }
}

/// An authority, and a certificate of its own for `localhost`.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn certificate(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn trust(&self) -> Certificate {
        Certificate::from_pem(self.issuer.pem())
    }
}

#[tokio::test]
async fn callers_show_a_certificate_where_an_authority_is_configured() {
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) = authority.certificate();
    let (cert, key) = (write("cert.pem", &cert), write("key.pem", &key));
    let client_ca = write("ca.pem", &authority.issuer.pem());
    let world = World::start(|settings| {
        settings.callers.tls = Some((cert, key));
        settings.callers.client_ca = Some(client_ca);
    });

    let call = async |tls: ClientTlsConfig| {
        let endpoint = Endpoint::from_shared(format!("https://{}", world.grpc)).unwrap();
        let endpoint =
            endpoint.tls_config(tls.domain_name("localhost").ca_certificate(authority.trust())).unwrap();
        let channel = endpoint.connect().await.ok()?;
        RealtimeServiceClient::new(channel).get_connection_stats(GetConnectionStatsRequest {}).await.ok()
    };
    let (cert, key) = authority.certificate();
    assert!(call(ClientTlsConfig::new().identity(Identity::from_pem(cert, key))).await.is_some());
    assert!(call(ClientTlsConfig::new()).await.is_none());
    let (cert, key) = Authority::new().certificate();
    assert!(call(ClientTlsConfig::new().identity(Identity::from_pem(cert, key))).await.is_none());
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_named_before_anything_is_served() {
    let world = World::start(|settings| settings.callers.tls = Some(("no.pem".into(), "no.key".into())));
    let error = world.running.await.unwrap().unwrap_err();
    assert!(error.to_string().starts_with("no.pem: "), "{error}");
}
