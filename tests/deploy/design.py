"""What the design asks of the template, by name: tables, rights, queues, schedules. Tests compare with this."""

from __future__ import annotations

WITHOUT_RESOURCE_RIGHTS = {
    ("TracingPolicy", "Tracing"): "X-Ray knows no resources for putting segments",
    ("RolloutRole", "WatchAlarms"): "CloudWatch lists alarms, it does not name them",
    ("AlarmKey", "Account"): "a key's policy speaks of the key alone; without the account nobody may change it",
    ("AlarmKey", "Publishers"): "a key's policy speaks of the key alone",
    ("AccountsKey", "Account"): "a key's policy speaks of the key alone; without the account nobody may change it",
    ("TrainingRole", "RegistryLogin"): "a registry login is for the account",
    ("endpoint.yaml:Role", "RegistryLogin"): "a registry login is for the account",
    ("endpoint.yaml:Role", "Metrics"): "CloudWatch takes metrics by namespace, which the condition names",
}
BELOW_ONE_RESOURCE = {
    ("FusionRole", "CandleArchive"): "objects under the prefix candles/ of one bucket",
    ("VerifyRole", "CandleArchive"): "objects under the prefix candles/ of one bucket",
    ("ForecastWorkerRole", "CandleArchive"): "objects under the prefix candles/ of one bucket",
    ("MlRole", "Reports"): "objects under the prefix bundles/ of one bucket",
    ("TrainWorkerRole", "CandleArchive"): "objects under the prefix candles/ of one bucket",
    ("TrainWorkerRole", "Trainings"): "objects under the prefix training/ of one bucket",
    ("TrainWorkerRole", "Bundles"): "objects under the prefix bundles/ of one bucket",
    ("TrainWorkerRole", "Releases"): "objects under the prefix releases/ of one bucket",
    ("TrainWorkerRole", "Train"): "training jobs that bear our name",
    ("TrainWorkerRole", "Configurations"): "the names that CloudFormation and the registry give are not known before",
    ("TrainWorkerRole", "ModelCopies"): "the names that CloudFormation and the registry give are not known before",
    ("TrainWorkerRole", "LendServingRole"): "the role of the endpoint, which its nested stack names",
    ("TrainingRole", "Trainings"): "objects under the prefix training/ of one bucket",
    ("TrainingRole", "Bundles"): "objects under the prefix bundles/ of one bucket",
    ("TrainingRole", "JobLogs"): "the log streams of training jobs that bear our name",
    ("endpoint.yaml:Role", "Releases"): "objects under the prefix releases/ of one bucket",
    ("endpoint.yaml:Role", "Bundles"): "objects under the prefix of the bundles of one bucket",
}

TABLES = {
    "AccountsTable": ["pk", "sk"],
    "JournalTable": ["owner", "id"],
    "ModelsTable": ["pk", "sk"],
    "SignalsTable": ["pk", "sk"],
    "CacheTable": ["key"],
    "ConnectionsTable": ["channel", "connection"],
}
INDEXES = {
    ("JournalTable", "by_symbol"): ["owner_symbol", "id"],
    ("JournalTable", "pending"): ["pending_shard", "due_at"],
    ("SignalsTable", "by_symbol"): ["symbol", "sk"],
    ("ConnectionsTable", "by_connection"): ["connection", "channel"],
}
CALL_THE_GATE = {"Gate": ("AccountsTable", "UpdateItem"), "SigningKeys": ("SigningKeys", "GetSecretValue")}
DERIVE = {"DerivationSecret": ("DerivationSecret", "GetSecretValue")}
ONCE = {"Once": ("AccountsTable", "DeleteItem PutItem")}
READ_CANDLES = {
    "CandleArchive": ("ArtifactsBucket/candles/*", "GetObject PutObject"),
    "CandleArchiveMisses": ("ArtifactsBucket", "ListBucket"),
}
ASK_MODELS = {
    "DegradedModels": ("ModelsTable", "Query"),
    "CalibrationStates": ("ModelsTable", "GetItem PutItem"),
    "Models": ("endpoint/${EndpointName}", "InvokeEndpoint"),
}
READ = "DeleteMessage GetQueueAttributes ReceiveMessage"
RIGHTS: dict[str, dict[str, tuple[str, str]]] = {
    "Auth": {
        "Accounts": ("AccountsTable", "DeleteItem GetItem PutItem Query UpdateItem"),
        "SigningKeys": ("SigningKeys", "GetSecretValue"),
        "AskForMails": ("MailQueue", "SendMessage"),
        "SealUsersTokens": ("AccountsKey", "Encrypt"),
        **DERIVE,
    },
    "Fusion": {
        **CALL_THE_GATE, **READ_CANDLES, **ASK_MODELS,
        "Journal": ("JournalTable", "PutItem UpdateItem"),
        "Jobs": ("ModelsTable", "PutItem"),
        "AskForForecasts": ("ForecastQueue", "SendMessage"),
    },
    "Docs": {},
    "Mail": {
        "ReadMails": ("MailQueue", READ),
        "Send": ("identity/${MailIdentity}", "SendEmail SendRawEmail"),
        "SmtpLogin": ("SmtpSecretArn", "GetSecretValue"),
    },
    "ForecastWorker": {
        **READ_CANDLES, **ASK_MODELS,
        "ReadChunks": ("ForecastQueue", READ),
        "ReadJobs": ("JobsQueue", READ),
        "Journal": ("JournalTable", "BatchGetItem PutItem Query UpdateItem"),
        "Runs": ("SignalsTable", "GetItem UpdateItem"),
        "Jobs": ("ModelsTable", "PutItem UpdateItem"),
    },
    "Schedule": {
        "Runs": ("SignalsTable", "PutItem UpdateItem"),
        "Subscriptions": ("ConnectionsTable", "Scan"),
        "SendChunks": ("ForecastQueue", "SendMessage"),
        "OwedMails": ("AccountsTable", "DeleteItem Query"),
        "SendMails": ("MailQueue", "SendMessage"),
        "AskForDrift": ("TrainingQueue", "SendMessage"),
        "RotateKeys": ("SigningKeys", "GetSecretValue PutSecretValue UpdateSecretVersionStage"),
        "DeadLetters": ("ScheduleDeadLetters", "SendMessage"),
    },
    "Journal": {
        **CALL_THE_GATE, **DERIVE, **ONCE,
        "Journal": ("JournalTable", "DeleteItem GetItem PutItem Query UpdateItem"),
        "JournalOfSymbol": ("JournalTable/index/by_symbol", "Query"),
        "Jobs": ("ModelsTable", "PutItem"),
        "AskForJobs": ("JobsQueue", "SendMessage"),
    },
    "Verify": {
        **READ_CANDLES,
        "Journal": ("JournalTable", "UpdateItem"),
        "JournalDue": ("JournalTable/index/pending", "Query"),
        "DeadLetters": ("ScheduleDeadLetters", "SendMessage"),
    },
    "Ml": {
        **CALL_THE_GATE, **DERIVE, **ONCE,
        "Jobs": ("ModelsTable", "GetItem PutItem UpdateItem"),
        "Registry": ("ModelsTable", "BatchGetItem GetItem Query"),
        "Reports": ("ArtifactsBucket/bundles/*", "GetObject"),
        "ReportMisses": ("ArtifactsBucket", "ListBucket"),
        "AskForForecasts": ("ForecastQueue", "SendMessage"),
        "AskForTrainings": ("TrainingQueue", "SendMessage"),
    },
    "TrainWorker": {
        "Turns": ("TrainingQueue", f"ChangeMessageVisibility {READ} SendMessage"),
        "Jobs": ("ModelsTable", "GetItem PutItem UpdateItem"),
        "Registry": ("ModelsTable", "BatchGetItem DeleteItem GetItem PutItem Query UpdateItem"),
        "Journal": ("JournalTable", "Query"),
        "JournalOfSymbol": ("JournalTable/index/by_symbol", "Query"),
        "CandleArchive": ("ArtifactsBucket/candles/*", "GetObject PutObject"),
        "Trainings": ("ArtifactsBucket/training/*", "GetObject PutObject"),
        "Bundles": ("ArtifactsBucket/bundles/*", "GetObject PutObject"),
        "Releases": ("ArtifactsBucket/releases/*", "PutObject"),
        "ObjectNames": ("ArtifactsBucket", "ListBucket"),
        "Train": ("training-job/fusiontrade-*", "CreateTrainingJob DescribeTrainingJob StopTrainingJob"),
        "LendTrainingRole": ("TrainingRole", "PassRole"),
        "Models": ("endpoint/${EndpointName}", "InvokeEndpoint"),
        "Exchange": ("endpoint/${EndpointName}", "DescribeEndpoint UpdateEndpoint"),
        "Configurations": ("endpoint-config/*", "CreateEndpointConfig DescribeEndpointConfig UpdateEndpoint"),
        "ModelCopies": ("model/*", "CreateModel DescribeModel"),
        "LendServingRole": ("StackName}-Endpoint-*", "PassRole"),  # what follows the last colon
    },
}  # fmt: skip
OWN_ITEMS = [
    ("Auth", "Accounts", "ADDRESS#* ATTEMPTS#* EMAIL#* MAILS#* NOBODY#* ONCE#* OUTBOX USER#*"),
    ("Fusion", "Gate", "USER#*"),
    ("Fusion", "DegradedModels", "REGISTRY"),
    ("ForecastWorker", "DegradedModels", "REGISTRY"),
    ("Fusion", "CalibrationStates", "CALIBRATION#*"),
    ("Fusion", "Jobs", "JOB#*"),
    ("ForecastWorker", "CalibrationStates", "CALIBRATION#*"),
    ("ForecastWorker", "Runs", "RUN#*"),
    ("ForecastWorker", "Jobs", "JOB#*"),
    ("Schedule", "OwedMails", "OUTBOX"),
    ("Schedule", "Runs", "RUN#*"),
    ("Journal", "Gate", "USER#*"),
    ("Journal", "Once", "ONCE#*"),
    ("Journal", "Jobs", "JOB#*"),
    ("Ml", "Gate", "USER#*"),
    ("Ml", "Once", "ONCE#*"),
    ("Ml", "Jobs", "JOB#*"),
    ("Ml", "Registry", "REGISTRY"),
    ("TrainWorker", "Jobs", "JOB#*"),
    ("TrainWorker", "Registry", "REGISTRY"),
]
QUEUES = {
    "Forecast": ("ForecastWorkerFunction", 2),
    "Jobs": ("ForecastWorkerFunction", 1),
    "Mail": ("MailFunction", 2),
    "Training": ("TrainWorkerFunction", 1),
}
MOST_AT_ONCE = {
    "Forecast": "ChunkConcurrency",
    "Jobs": "JobConcurrency",
    "Mail": "WorkerConcurrency",
    "Training": "TrainConcurrency",
}
RESERVED = {
    "MailFunction": "WorkerConcurrency",
    "VerifyFunction": "WorkerConcurrency",
    "ScheduleFunction": "WorkerConcurrency",
    "ForecastWorkerFunction": "ForecastConcurrency",
    "TrainWorkerFunction": "TrainConcurrency",
}
SCHEDULES = {
    ("VerifyFunction", "verify"): "rate(15 minutes)",
    ("ScheduleFunction", "intraday"): "cron(0 6 * * ? *)",
    ("ScheduleFunction", "subscribed"): "rate(5 minutes)",
    ("ScheduleFunction", "relay-mails"): "rate(5 minutes)",
    ("ScheduleFunction", "drift"): "cron(0 5 * * ? *)",
    ("ScheduleFunction", "rotate-keys"): "cron(30 3 1 * ? *)",
}
STREAMED = {"JournalTable", "ModelsTable", "SignalsTable"}
