//! Configs of topics, brokers and groups.
//!
//! Owns: Kafka's numbers for resources and operations.
//! Does not own: which configs there are (`settings`), what changing them does (`handlers::admin`).

use esker_kafka::Str;
use esker_kafka::messages::describe_configs_request::{
    DescribeConfigsRequest as KafkaDescribeConfigs, DescribeConfigsResource,
};
use esker_kafka::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use esker_proto::v1::{
    AlterConfigsRequest, AlterConfigsResponse, Config, ConfigDescriptions, ConfigOperation, ConfigOperationKind,
    ConfigResource, ConfigResourceType, ConfigResult, DescribeConfigsRequest, DescribeConfigsResponse,
};
use tonic::Status;

use super::calls::Caller;
use super::errors::{failure, invalid};

const DESCRIBE_CONFIGS: i16 = 4;
const INCREMENTAL_ALTER_CONFIGS: i16 = 1;
/// Kafka's numbers of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

pub(super) async fn describe(
    caller: &Caller,
    request: DescribeConfigsRequest,
) -> Result<DescribeConfigsResponse, Status> {
    let resources = request.resources.into_iter().map(|resource| {
        Ok(DescribeConfigsResource {
            resource_type: type_number(&resource)?,
            resource_name: Str::from(resource.name),
            configuration_keys: None,
        })
    });
    let request = KafkaDescribeConfigs {
        resources: resources.collect::<Result<_, Status>>()?,
        include_synonyms: false,
        include_documentation: request.documentation,
    };
    let answered = caller.call(DESCRIBE_CONFIGS, &request).await?;
    let results = answered.results.into_iter().map(|result| {
        let configs = result.configs.into_iter().map(|config| Config {
            name: config.name.into(),
            value: config.value.map(String::from),
            source: i32::from(config.config_source),
            read_only: config.read_only,
            sensitive: config.is_sensitive,
            documentation: config.documentation.map(String::from),
        });
        ConfigDescriptions {
            configs: configs.collect(),
            failure: failure(
                result.error_code,
                &format!("configs of {:?}", result.resource_name),
                result.error_message.as_deref(),
            ),
            resource: Some(resource(result.resource_type, result.resource_name)),
        }
    });
    Ok(DescribeConfigsResponse {
        results: results.collect(),
    })
}

pub(super) async fn alter(caller: &Caller, request: AlterConfigsRequest) -> Result<AlterConfigsResponse, Status> {
    let resources = request.alterations.into_iter().map(|alteration| {
        let resource = alteration.resource.unwrap_or_default();
        let configs = alteration.operations.into_iter().map(alterable);
        Ok(AlterConfigsResource {
            resource_type: type_number(&resource)?,
            resource_name: Str::from(resource.name),
            configs: configs.collect::<Result<_, Status>>()?,
        })
    });
    let request = IncrementalAlterConfigsRequest {
        resources: resources.collect::<Result<_, Status>>()?,
        validate_only: request.validate_only,
    };
    let answered = caller.call(INCREMENTAL_ALTER_CONFIGS, &request).await?;
    let results = answered.responses.into_iter().map(|result| ConfigResult {
        failure: failure(
            result.error_code,
            &format!("configs of {:?}", result.resource_name),
            result.error_message.as_deref(),
        ),
        resource: Some(resource(result.resource_type, result.resource_name)),
    });
    Ok(AlterConfigsResponse {
        results: results.collect(),
    })
}

fn alterable(operation: ConfigOperation) -> Result<AlterableConfig, Status> {
    let config_operation = match operation.kind() {
        ConfigOperationKind::Set => 0,
        ConfigOperationKind::Delete => 1,
        ConfigOperationKind::Append => 2,
        ConfigOperationKind::Subtract => 3,
        ConfigOperationKind::Unspecified => {
            return Err(invalid(format!(
                "nothing is said to be done with {:?}; set, delete, append or subtract",
                operation.name
            )));
        }
    };
    Ok(AlterableConfig {
        name: Str::from(operation.name),
        config_operation,
        value: operation.value.map(Str::from),
    })
}

fn type_number(resource: &ConfigResource) -> Result<i8, Status> {
    match resource.r#type() {
        ConfigResourceType::Topic => Ok(TOPIC),
        ConfigResourceType::Broker => Ok(BROKER),
        ConfigResourceType::Group => Ok(GROUP),
        ConfigResourceType::Unspecified => {
            Err(invalid(format!("the type of {:?} is missing; name one", resource.name)))
        }
    }
}

fn resource(number: i8, name: Str) -> ConfigResource {
    let kind = match number {
        TOPIC => ConfigResourceType::Topic,
        BROKER => ConfigResourceType::Broker,
        GROUP => ConfigResourceType::Group,
        _ => ConfigResourceType::Unspecified,
    };
    ConfigResource {
        r#type: kind.into(),
        name: name.into(),
    }
}
