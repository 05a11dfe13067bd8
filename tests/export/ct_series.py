"""A CT series made by hand: oblique, files in no order, the headers' gap between slices wrong."""

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.8.498.1"
# Slices of whole bytes of bits: of others GDCM reads memory behind a binary segmentation's end.
SHAPE = (24, 22, 9)
STEP = 3.5
ROW = np.array([0.96, 0.28, 0.0])
COLUMN = np.cross([0.28 * 0.6, -0.96 * 0.6, 0.8], ROW)
NORMAL = np.cross(ROW, COLUMN)
CORNER = np.array([-40.0, 15.0, -220.0])


def affine():
    """Voxel to RAS mm."""
    found = np.eye(4)
    found[:3, :3] = np.column_stack([ROW * 0.9, COLUMN * 1.1, NORMAL * STEP])
    found[:3, 3] = CORNER
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ found


def voxels():
    at = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij")).astype(float)
    away = ((at - np.reshape([17, 8, 3], (3, 1, 1, 1))) ** 2).sum(0)
    return (300 * np.exp(-away / 40) + 5 * at[0] + 3 * at[1] + 7 * at[2]).astype(np.int16)


def write(folder, body_part="HEAD"):
    """One file for each slice; the folder."""
    folder.mkdir()
    order = np.random.default_rng(1).permutation(SHAPE[2])
    for k in range(SHAPE[2]):
        found = pydicom.Dataset()
        found.file_meta = pydicom.dataset.FileMetaDataset()
        found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = CTImageStorage
        found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID = f"{ROOT}.3.{k + 1}"
        found.PatientName, found.PatientID = "Doe^Jane", "P-77"
        found.PatientBirthDate, found.PatientSex = "19700102", "F"
        found.StudyInstanceUID, found.SeriesInstanceUID = f"{ROOT}.1", f"{ROOT}.2"
        found.FrameOfReferenceUID, found.PositionReferenceIndicator = f"{ROOT}.4", ""
        found.StudyDate, found.StudyTime, found.StudyID = "20260102", "101112", "S1"
        found.AccessionNumber, found.ReferringPhysicianName = "A1", ""
        found.Modality, found.Manufacturer = "CT", "nobody"
        found.SeriesNumber, found.InstanceNumber = 4, k + 1
        if body_part:
            found.BodyPartExamined = body_part
        found.ImageOrientationPatient = [round(x, 6) for x in (*ROW, *COLUMN)]
        found.ImagePositionPatient = [round(x, 3) for x in CORNER + NORMAL * STEP * k]
        found.PixelSpacing, found.SliceThickness = [1.1, 0.9], 3
        found.SpacingBetweenSlices = 1.25
        found.Rows, found.Columns = SHAPE[1], SHAPE[0]
        found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
        found.BitsAllocated, found.BitsStored, found.HighBit = 16, 16, 15
        found.PixelRepresentation, found.RescaleSlope, found.RescaleIntercept = 1, 1, -100
        found.PixelData = np.ascontiguousarray(voxels()[:, :, k].T).tobytes()
        found.save_as(folder / f"I{order[k]:03d}", enforce_file_format=True)
    return folder
