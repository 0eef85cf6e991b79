"""Which objects are printed: what docs/json.md is made of."""

from __future__ import annotations

from modeldrop_cli.objects.dropping import (
    AskedObject,
    DropObject,
    NewRunObject,
    ScanObject,
    StatusObject,
)
from modeldrop_cli.objects.failing import ErrorObject
from modeldrop_cli.objects.finding import (
    BestObject,
    DiffObject,
    ExperimentsObject,
    PlotObject,
    SearchObject,
    SearchRunsObject,
    VersionsObject,
)
from modeldrop_cli.objects.sharing import (
    EntryObject,
    ExportObject,
    FetchObject,
    ImportObject,
    PushObject,
)
from modeldrop_cli.objects.starting import CloneObject, InitObject
from modeldrop_cli.objects.stored import (
    CopyObject,
    InspectObject,
    RegisteredObject,
    RetiredObject,
    RevisionObject,
    RunObject,
    VersionObject,
)
from modeldrop_cli.objects.tending import (
    CleanObject,
    DoctorObject,
    GcObject,
    PruneObject,
    RebuildObject,
    VerifyObject,
)
from modeldrop_cli.objects.using import (
    AliasesObject,
    AliasHistoryObject,
    DeployedObject,
    DeploymentsObject,
    PromotedObject,
    TargetSetObject,
    TargetsObject,
)
from modeldrop_cli.objects.vouching import CreatedKeyObject, KeyObject, KeysObject, SignedObject

# In the order of docs/json.md: what each command prints.
PRINTED = (
    InitObject,
    NewRunObject,
    DropObject,
    ScanObject,
    StatusObject,
    AskedObject,
    RunObject,
    ExperimentsObject,
    VersionsObject,
    SearchObject,
    SearchRunsObject,
    BestObject,
    PlotObject,
    DiffObject,
    VersionObject,
    RevisionObject,
    EntryObject,
    RegisteredObject,
    PromotedObject,
    AliasesObject,
    AliasHistoryObject,
    RetiredObject,
    TargetSetObject,
    TargetsObject,
    DeployedObject,
    DeploymentsObject,
    CopyObject,
    InspectObject,
    PushObject,
    FetchObject,
    CloneObject,
    CreatedKeyObject,
    KeysObject,
    KeyObject,
    SignedObject,
    ImportObject,
    ExportObject,
    RebuildObject,
    VerifyObject,
    GcObject,
    PruneObject,
    CleanObject,
    DoctorObject,
    ErrorObject,
)
