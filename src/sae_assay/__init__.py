"""sae-assay: can a sparse-autoencoder benchmark be trusted?"""
