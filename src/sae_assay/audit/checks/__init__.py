"""The checks of `sae-assay verify`, in the order in which they run. Each has one public function, `check(context)`."""
