"""Coming from elsewhere: other registries, and bundles from places without a network.

    with Repository.open() as repository, opening.mlflow("sqlite:///mlflow.db") as source:
        report = carry(repository, source, Options(dry_run=True))

`elsewhere` says what a reader tells of another place; `mlopsnet`, `mlflow` (over `mlflow_folder`
and `mlflow_database`) and `unpacking` are the readers, and `opening` opens them. `carrying` brings
what they tell into this repository (`bringing` a run), and `report` says what became of it.
`packing` makes a bundle.

A reader reads, and changes nothing. What it reads was written by somebody else: a path in it is
followed only below the folders that the user named, from handle to handle, and through no link
(`places`); what it says of sizes and numbers has bounds.
"""
