//! Armada's `api.Job`, the message that a job spec is.
//!
//! The field numbers are Armada's; the Kubernetes messages come from `k8s-pb`. Unknown fields
//! are skipped. Maps are ordered, so a message has one encoding.

use std::collections::BTreeMap;

use k8s_pb::api::core::v1::{PodSpec, ResourceRequirements, Service};
use k8s_pb::api::networking::v1::Ingress;
use prost::Message;
use prost_types::Timestamp;

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
    /// The pod of a job of one pod; superseded by `pod_specs`.
    #[prost(message, optional, tag = "5")]
    pub pod_spec: Option<PodSpec>,
    /// When the job was submitted.
    #[prost(message, optional, tag = "6")]
    pub created: Option<Timestamp>,
    /// The Kubernetes namespace.
    #[prost(string, tag = "7")]
    pub namespace: String,
    /// Who submitted the job.
    #[prost(string, tag = "8")]
    pub owner: String,
    /// Labels for the pods.
    #[prost(btree_map = "string, string", tag = "9")]
    pub labels: BTreeMap<String, String>,
    /// Annotations for the pods.
    #[prost(btree_map = "string, string", tag = "10")]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a node must have; superseded by the pod's node selector.
    #[prost(btree_map = "string, string", tag = "11")]
    pub required_node_labels: BTreeMap<String, String>,
    /// The pods.
    #[prost(message, repeated, tag = "12")]
    pub pod_specs: Vec<PodSpec>,
    /// The submitter's own id, by which repeated submissions are recognised.
    #[prost(string, tag = "13")]
    pub client_id: String,
    /// Ingresses that Armada makes.
    #[prost(message, repeated, tag = "14")]
    pub ingress: Vec<IngressConfig>,
    /// The groups that own the queue.
    #[prost(string, repeated, tag = "15")]
    pub queue_ownership_user_groups: Vec<String>,
    /// Services that Armada makes.
    #[prost(message, repeated, tag = "16")]
    pub services: Vec<ServiceConfig>,
    /// Ingresses in Kubernetes' own form.
    #[prost(message, repeated, tag = "17")]
    pub k8s_ingress: Vec<Ingress>,
    /// Services in Kubernetes' own form.
    #[prost(message, repeated, tag = "18")]
    pub k8s_service: Vec<Service>,
    /// The groups that own the queue, compressed.
    #[prost(bytes = "vec", tag = "19")]
    pub compressed_queue_ownership_user_groups: Vec<u8>,
    /// The scheduler that is to place the job.
    #[prost(string, tag = "20")]
    pub scheduler: String,
    /// The resources by which the job is scheduled.
    #[prost(message, optional, tag = "21")]
    pub scheduling_resource_requirements: Option<ResourceRequirements>,
}

/// An ingress that Armada makes for a job.
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
    /// Whether to serve TLS.
    #[prost(bool, tag = "4")]
    pub tls_enabled: bool,
    /// The certificate's name.
    #[prost(string, tag = "5")]
    pub cert_name: String,
    /// Whether the service has an address of its own.
    #[prost(bool, tag = "6")]
    pub use_cluster_ip: bool,
}

/// A service that Armada makes for a job.
#[derive(Clone, PartialEq, Message)]
pub struct ServiceConfig {
    /// 0 for a node port, 1 for a headless service.
    #[prost(int32, tag = "1")]
    pub r#type: i32,
    /// The ports.
    #[prost(uint32, repeated, tag = "2")]
    pub ports: Vec<u32>,
    /// The service's name.
    #[prost(string, tag = "3")]
    pub name: String,
}
