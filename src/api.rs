//! Job specs, and Armada's protobuf message `api.Job`, in which they are encoded.
//!
//! The field numbers are Armada's; the Kubernetes messages come from `k8s-pb`. Unknown fields are skipped. Maps are
//! ordered, so that equal messages have equal encodings.

use std::collections::BTreeMap;

use bytes::Bytes;
use k8s_pb::api::core::v1::{PodSpec, ResourceRequirements, Service};
use k8s_pb::api::networking::v1::Ingress;
use prost::Message;
use prost_types::Timestamp;

/// The spec of a job: the bytes of an [`api.Job`](Job) as they were ingested, with the fields that this crate does not
/// know.
///
/// ```
/// use broadside::api::{Job, JobSpec};
/// use broadside::prost::Message;
///
/// let job = Job { queue: "q".to_owned(), ..Job::default() };
/// // A field with the number 100 of a later version of Armada.
/// let stored = [job.encode_to_vec(), vec![0xa0, 0x06, 0x01]].concat();
/// let spec = JobSpec::from(stored.clone());
/// assert_eq!(spec.as_ref(), stored);
/// assert_eq!(spec.decode()?, job);
/// # Ok::<_, broadside::prost::DecodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec(Bytes);

impl JobSpec {
    /// Decodes the message without its unknown fields.
    ///
    /// # Errors
    ///
    /// The bytes are not an `api.Job`. Ingestion rejects such specs, so another program has written them.
    pub fn decode(&self) -> Result<Job, prost::DecodeError> {
        Job::decode(self.0.clone())
    }

    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl<T: Into<Bytes>> From<T> for JobSpec {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl AsRef<[u8]> for JobSpec {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The specification with which a job was submitted.
#[derive(Clone, PartialEq, Message)]
pub struct Job {
    /// The job's id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The job set.
    #[prost(string, tag = "2")]
    pub job_set_id: String,
    /// The queue.
    #[prost(string, tag = "3")]
    pub queue: String,
    /// The priority.
    #[prost(double, tag = "4")]
    pub priority: f64,
    /// The pod; superseded by `pod_specs`.
    #[prost(message, optional, tag = "5")]
    pub pod_spec: Option<PodSpec>,
    /// The time of submission.
    #[prost(message, optional, tag = "6")]
    pub created: Option<Timestamp>,
    /// The Kubernetes namespace.
    #[prost(string, tag = "7")]
    pub namespace: String,
    /// The user who submitted the job.
    #[prost(string, tag = "8")]
    pub owner: String,
    /// The labels of the pods.
    #[prost(btree_map = "string, string", tag = "9")]
    pub labels: BTreeMap<String, String>,
    /// The annotations of the pods.
    #[prost(btree_map = "string, string", tag = "10")]
    pub annotations: BTreeMap<String, String>,
    /// The labels that a node must have; superseded by the node selector of the pod.
    #[prost(btree_map = "string, string", tag = "11")]
    pub required_node_labels: BTreeMap<String, String>,
    /// The pods.
    #[prost(message, repeated, tag = "12")]
    pub pod_specs: Vec<PodSpec>,
    /// The client's id of the submission, which makes submissions idempotent.
    #[prost(string, tag = "13")]
    pub client_id: String,
    /// The ingresses that Armada creates.
    #[prost(message, repeated, tag = "14")]
    pub ingress: Vec<IngressConfig>,
    /// The groups that own the queue.
    #[prost(string, repeated, tag = "15")]
    pub queue_ownership_user_groups: Vec<String>,
    /// The services that Armada creates.
    #[prost(message, repeated, tag = "16")]
    pub services: Vec<ServiceConfig>,
    /// Ingresses as Kubernetes messages.
    #[prost(message, repeated, tag = "17")]
    pub k8s_ingress: Vec<Ingress>,
    /// Services as Kubernetes messages.
    #[prost(message, repeated, tag = "18")]
    pub k8s_service: Vec<Service>,
    /// The groups that own the queue, compressed.
    #[prost(bytes = "vec", tag = "19")]
    pub compressed_queue_ownership_user_groups: Vec<u8>,
    /// The scheduler of the job.
    #[prost(string, tag = "20")]
    pub scheduler: String,
    /// The resource requirements for scheduling.
    #[prost(message, optional, tag = "21")]
    pub scheduling_resource_requirements: Option<ResourceRequirements>,
}

/// An ingress that Armada creates for a job.
#[derive(Clone, PartialEq, Message)]
pub struct IngressConfig {
    /// Superseded; kept for old messages.
    #[prost(int32, tag = "1")]
    pub r#type: i32,
    /// The ports.
    #[prost(uint32, repeated, tag = "2")]
    pub ports: Vec<u32>,
    /// Annotations for the ingress.
    #[prost(btree_map = "string, string", tag = "3")]
    pub annotations: BTreeMap<String, String>,
    /// Whether TLS is enabled.
    #[prost(bool, tag = "4")]
    pub tls_enabled: bool,
    /// The name of the certificate.
    #[prost(string, tag = "5")]
    pub cert_name: String,
    /// Whether the service has a cluster IP.
    #[prost(bool, tag = "6")]
    pub use_cluster_ip: bool,
}

/// A service that Armada creates for a job.
#[derive(Clone, PartialEq, Message)]
pub struct ServiceConfig {
    /// 0 for a node port, 1 for a headless service.
    #[prost(int32, tag = "1")]
    pub r#type: i32,
    /// The ports.
    #[prost(uint32, repeated, tag = "2")]
    pub ports: Vec<u32>,
    /// The name of the service.
    #[prost(string, tag = "3")]
    pub name: String,
}
