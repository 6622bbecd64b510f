use std::io::Write;

use rcgen::{CertificateParams, CertifiedKey, KeyPair, generate_simple_self_signed};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::*;

/// A directory with files of these names and contents.
fn files(contents: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in contents {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

fn load_from(directory: &TempDir) -> Result<Arc<ServerConfig>, TlsError> {
    let source =
        TlsSource::Files { cert: directory.path().join("cert.pem"), key: directory.path().join("key.pem") };
    load(&source, &Ticketing::new().unwrap())
}

fn pair() -> (String, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

#[test]
fn a_self_signed_certificate_needs_no_files() {
    let config = load(&TlsSource::SelfSigned, &Ticketing::new().unwrap()).unwrap();
    assert_eq!(config.alpn_protocols, [b"http/1.1"]);
    assert_eq!(config.send_tls13_tickets, 1);
    assert!(config.ticketer.enabled() && !config.session_storage.can_cache());
}

#[test]
fn a_chain_and_its_key_are_read_from_files() {
    let issuer_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["issuer".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(params, issuer_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let chain = format!("{}{}", leaf.pem(), issuer.pem());
    assert!(load_from(&files(&[("cert.pem", &chain), ("key.pem", &key.serialize_pem())])).is_ok());
}

#[test]
fn an_error_names_the_file_and_the_problem() {
    let (cert, key) = pair();
    let (_, other_key) = pair();
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let broken_cert = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    let broken_key = "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n";
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[("key.pem", &key)], "cert.pem: No such file"),
        (&[("cert.pem", &cert)], "key.pem: No such file"),
        (&[("cert.pem", &key), ("key.pem", &key)], "cert.pem: holds no PEM block `CERTIFICATE`"),
        (&[("cert.pem", broken_cert), ("key.pem", &key)], "cert.pem: holds a PEM block that does not decode"),
        (&[("cert.pem", &cert), ("key.pem", &cert)], "key.pem: holds no PEM block `PRIVATE KEY`"),
        (&[("cert.pem", &cert), ("key.pem", broken_key)], "key.pem: holds a PEM block that does not decode"),
        (&[("cert.pem", &cert), ("key.pem", &encrypted)], "key.pem: the private key is encrypted"),
        (
            &[("cert.pem", &cert), ("key.pem", &other_key)],
            "key.pem: not the private key of the certificate in",
        ),
        (&[("cert.pem", garbage), ("key.pem", &key)], "key.pem: invalid peer certificate"),
    ];
    for (contents, expected) in cases {
        let error = load_from(&files(contents)).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(!error.contains("MIG"), "{error}");
    }
}

#[test]
fn a_certificate_that_is_replaced_while_it_is_read_has_changed() {
    let (cert, key) = pair();
    let directory = files(&[("cert.pem", &cert), ("next.pem", &cert)]);
    let path = |name: &str| directory.path().join(name);
    // A pipe for the key holds the reader back between the two files.
    mknodat(CWD, path("key.pem"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let source = TlsSource::Files { cert: path("cert.pem"), key: path("key.pem") };
    let mut certificate = Certificate::new(source, None).unwrap();
    let reader = std::thread::spawn(move || {
        certificate.load().unwrap();
        certificate
    });
    // Opens when the reader does, which has read the certificate by then.
    let mut pipe = std::fs::OpenOptions::new().write(true).open(path("key.pem")).unwrap();
    std::fs::rename(path("next.pem"), path("cert.pem")).unwrap();
    pipe.write_all(key.as_bytes()).unwrap();
    drop(pipe);
    assert!(reader.join().unwrap().has_changed());
}

#[test]
fn a_certificate_that_stays_has_not_changed() {
    let (cert, key) = pair();
    let directory = files(&[("cert.pem", &cert), ("key.pem", &key)]);
    let path = |name: &str| directory.path().join(name);
    let mut certificate =
        Certificate::new(TlsSource::Files { cert: path("cert.pem"), key: path("key.pem") }, None).unwrap();
    assert!(certificate.has_changed(), "never read");
    certificate.load().unwrap();
    assert!(!certificate.has_changed());
    std::fs::remove_file(path("key.pem")).unwrap();
    assert!(certificate.has_changed() && certificate.load().is_err());
    assert!(!certificate.has_changed(), "a bad file is complained of once");
    let mut development = Certificate::new(TlsSource::SelfSigned, None).unwrap();
    development.load().unwrap();
    assert!(!development.has_changed());
}

#[test]
fn ticket_keys_are_read_again_and_bad_ones_are_kept_out() {
    let good = "AAAA".repeat(12);
    let directory = files(&[("keys", &good)]);
    let file = directory.path().join("keys");
    let mut certificate = Certificate::new(TlsSource::SelfSigned, Some(file.clone())).unwrap();
    let ticket = certificate.load().unwrap().ticketer.encrypt(b"state").unwrap();
    assert!(!certificate.has_changed());
    let replace = |text: &str| {
        std::fs::write(directory.path().join("new"), text).unwrap();
        std::fs::rename(directory.path().join("new"), &file).unwrap();
    };
    for (text, error, opens) in [
        ("no secret!", Some("keys: line 1 is no ticket secret in base64"), true),
        (&format!("{}\n{good}", good.replace('A', "B")), None, true),
        (&good.replace('A', "C"), None, false),
    ] {
        replace(text);
        assert!(certificate.has_changed());
        let told = certificate.read_ticket_keys().err().map(|error| error.to_string());
        assert_eq!(told.as_deref().map(|told| told.ends_with(error.unwrap_or("-"))), error.map(|_| true));
        assert!(!certificate.has_changed());
        let ticketer = certificate.load().unwrap().ticketer.clone();
        assert_eq!(ticketer.decrypt(&ticket).is_some(), opens, "{text}");
    }
    replace("");
    let refused = Certificate::new(TlsSource::SelfSigned, Some(file)).unwrap_err().to_string();
    assert!(refused.contains("holds no ticket secret"), "{refused}");
}
