"""A loaded model and its runs: written, branched, rewound and compared."""
