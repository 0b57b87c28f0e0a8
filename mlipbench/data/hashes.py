from mlipbench.files.hashes import *  # temporary
