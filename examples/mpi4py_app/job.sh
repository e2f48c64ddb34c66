#!/bin/bash
#SBATCH --job-name=mpi4py_app
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=64
#SBATCH --time=00:10:00

# Once, on the login node:
#   python3 -m venv env && env/bin/pip install -r requirements.txt
#   PYBUNDLE_MPICC=$(which mpicc) env/bin/pip install /path/to/pybundle
#   env/bin/pybundle pack env/
srun env/bin/python -m pybundle run --bundle env.pybundle --receipt receipt.json app.py

# What it cost:  env/bin/pybundle receipt receipt.json
